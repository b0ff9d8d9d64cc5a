"""An SSH host that wants a key, or a password, and then a one-time code by keyboard-interactive."""

from __future__ import annotations

import threading
from typing import Any

import asyncssh

from runicorn_remote.demo.ssh_account import Account, AccountServer
from runicorn_remote.demo.ssh_host import EmbeddedHost

KEY_THEN_CODE = ("publickey",)
PASSWORD_THEN_CODE = ("password",)
CODE_ALONE = ()
# As PAM does it where sshd has the method "password" off: both by keyboard-interactive.
PASSWORD_AND_CODE_ASKED = ("asked",)
PASSWORD_ASKED = ("asked alone",)


class SecondFactorHost(EmbeddedHost):
    """`first`: what is wanted before the code. `code` is the right one; `questions` counts."""

    def __init__(self, *arguments: Any, first: tuple[str, ...] = KEY_THEN_CODE, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.first = first
        self.code = "314159"
        self.prompts: list[tuple[str, bool]] = [("Verification code: ", False)]
        self.title, self.instructions = "Two steps", "Open your app."
        self.answers: list[list[str]] = []
        self.questions = 0
        self.logins = 0
        self.asked = threading.Event()

    def make_server(self, account: Account) -> AccountServer:
        return _Server(account, self)


class _Server(AccountServer):
    def __init__(self, account: Account, host: SecondFactorHost) -> None:
        super().__init__(account)
        self._host = host
        self._first_done = host.first in (CODE_ALONE, PASSWORD_AND_CODE_ASKED, PASSWORD_ASKED)
        self._password_asked = host.first not in (PASSWORD_AND_CODE_ASKED, PASSWORD_ASKED)
        self._code_right = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        super().connection_made(conn)
        content: Any = conn.send_userauth_success

        async def step_done() -> None:
            if self._code_right:
                self._host.logins += 1
                await content()
            else:  # asyncssh knows no partial success (RFC 4252, 5.1)
                self._first_done = True
                conn._auth = None  # type: ignore[attr-defined]
                conn.send_userauth_failure(True)

        conn.send_userauth_success = step_done  # type: ignore[method-assign]

    def public_key_auth_supported(self) -> bool:
        return not self._first_done and self._host.first == KEY_THEN_CODE

    def password_auth_supported(self) -> bool:
        return not self._first_done and self._host.first == PASSWORD_THEN_CODE

    def kbdint_auth_supported(self) -> bool:
        return self._first_done

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        if not self._password_asked:
            return "", "", "", [("Password: ", False)]
        return self._code_question()

    def validate_kbdint_response(self, username: str, responses: Any) -> Any:
        answers = list(responses)
        self._host.answers.append(answers)
        if not self._password_asked:
            if not self.validate_password(username, answers[0]):
                return False
            self._password_asked = True
            if self._host.first == PASSWORD_ASKED:
                self._code_right = True
                return True
            return self._code_question()
        self._code_right = answers[:1] == [self._host.code] and username == self._account.username
        return self._code_right

    def _code_question(self) -> Any:
        self._host.questions += 1
        self._host.asked.set()
        return self._host.title, self._host.instructions, "", self._host.prompts
