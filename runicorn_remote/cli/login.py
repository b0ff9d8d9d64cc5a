"""What proves who somebody is: options, and what is asked when the server wants more.

A secret is never an argument, which every user of this machine could read in the process list, and
never in an environment.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runicorn_remote.cli.challenge import answers_to, ask_secret
from runicorn_remote.cli.host_key import confirms
from runicorn_remote.cli.output import is_terminal, say
from runicorn_remote.cli.target import SSH_PORT, Target

if TYPE_CHECKING:
    from runicorn_remote.client import InteractiveAuthRequired, RunicornRemoteError

# A login over jump hosts asks about one key a hop, and each hop may ask several times.
_MOST_HOST_KEYS = 9
_MOST_CHALLENGES = 20
_MOST_PASSPHRASES = 3

Answer = TypeVar("Answer")


class Login:
    """Where to log in and with what, as the client takes it. Used by one thread.

    `saved_server_id` supplies what is missing; without one `target` is needed.
    """

    def __init__(
        self,
        target: Target | None,
        *,
        saved_server_id: str | None = None,
        identity: str | None = None,
        password: str | None = None,
        use_agent: bool = True,
    ) -> None:
        self.host = target.host if target else None
        self.port = target.port if target else None
        # A saved server has a user of its own: one we made up would be a mismatch.
        self.username = (target.username if saved_server_id else target.user) if target else None
        self._use_agent = use_agent
        self._saved_server_id = saved_server_id
        self._identity = identity
        self._password = password
        self._passphrase: str | None = None
        self._host_keys = self._passphrases = self._passwords = self._challenges = 0
        # What was typed, until the host asks for it: the client finds the question still open.
        self._answers: dict[str, list[str]] = {}

    @property
    def account(self) -> dict[str, Any]:
        """What is known of a session over this login, in the names of the API."""
        port = self.port or (None if self._saved_server_id else SSH_PORT)
        known = {"host": self.host, "username": self.username, "sshPort": port}
        return {name: value for name, value in known.items() if value is not None}

    def attempt(self, request: Callable[..., Answer]) -> Answer:
        """`request(**arguments)`, again as long as a person answers what it fails on.

        Raises what the last attempt raised.
        """
        from runicorn_remote.client import RunicornRemoteError

        while True:
            try:
                return request(**self._arguments())
            except RunicornRemoteError as error:
                if not self._helps(error):
                    raise

    def _arguments(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port or SSH_PORT,
            "username": self.username,
            "password": self._password,
            "private_key_path": self._identity,
            "passphrase": self._passphrase,
            "use_agent": self._use_agent,
            "saved_server_id": self._saved_server_id,
            "on_challenge": lambda challenge: self._answers.pop(challenge.challenge_id, None),
        }

    def _helps(self, error: RunicornRemoteError) -> bool:
        """Ask a person for what the login lacks. False: there is nothing to ask, or nobody."""
        from runicorn_remote.client import (
            AuthenticationFailed,
            HostKeyConfirmationRequired,
            InteractiveAuthRequired,
            PassphraseRequired,
            PassphraseWrong,
        )

        if isinstance(error, HostKeyConfirmationRequired):
            return self._accepts(error)
        if not is_terminal(sys.stdin):
            return False
        if isinstance(error, InteractiveAuthRequired):
            return self._types_answers(error)
        if isinstance(error, PassphraseRequired) or (
            isinstance(error, PassphraseWrong) and self._passphrases
        ):
            return self._types_passphrase(error)
        if isinstance(error, AuthenticationFailed) and self._password is None:
            return self._types_password(error)
        return False

    def _accepts(self, error: Any) -> bool:
        self._host_keys += 1
        if self._host_keys > _MOST_HOST_KEYS or not confirms(error.host_key):
            return False
        error.accept()
        return True

    def _types_answers(self, error: InteractiveAuthRequired) -> bool:
        self._challenges += 1
        if self._challenges > _MOST_CHALLENGES:
            return False
        self._answers = {error.challenge.challenge_id: answers_to(error.challenge)}
        return True

    def _types_passphrase(self, error: RunicornRemoteError) -> bool:
        if self._passphrases >= _MOST_PASSPHRASES:
            return False
        if self._passphrases:
            say(str(error))
        self._passphrases += 1
        self._passphrase = ask_secret(f"Enter passphrase for key {self._identity or 'of the saved server'}: ")
        return bool(self._passphrase)

    def _types_password(self, error: RunicornRemoteError) -> bool:
        if self._passwords:
            return False
        say(str(error))
        self._passwords += 1
        self._password = ask_secret(_password_prompt(self.host, self.username)) or None
        return self._password is not None


def credential_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options from which `login_of` makes a `Login`; the function gets them as one `credentials`."""

    @click.option("-i", "--identity", metavar="FILE", help="A private key; the server reads the file.")
    @click.option("--password", "ask_password", is_flag=True, help="Ask for the password.")
    @click.option("--password-stdin", is_flag=True, help="Read the password from the first line of stdin.")
    @click.option("--no-agent", is_flag=True, help="Do not use the server's SSH agent.")
    @functools.wraps(function)
    def run(
        *arguments: Any,
        identity: str | None,
        ask_password: bool,
        password_stdin: bool,
        no_agent: bool,
        **options: Any,
    ) -> None:
        if ask_password and password_stdin:
            raise click.UsageError("--password and --password-stdin exclude each other")
        credentials = {
            "identity": _path_for_the_server(identity),
            "ask_password": ask_password,
            "password_stdin": password_stdin,
            "use_agent": not no_agent,
        }
        function(*arguments, credentials=credentials, **options)

    return run


def login_of(target: Target | None, credentials: dict[str, Any], saved_server_id: str | None = None) -> Login:
    """Reads or asks for the password, if that is what the options say."""
    return Login(
        target,
        saved_server_id=saved_server_id,
        identity=credentials["identity"],
        password=read_password(target, credentials),
        use_agent=credentials["use_agent"],
    )


def read_password(target: Target | None, credentials: dict[str, Any]) -> str | None:
    """From stdin, from the terminal, or None: as the options say. Never empty."""
    if credentials["password_stdin"]:
        password = sys.stdin.readline().rstrip("\r\n")
    elif credentials["ask_password"]:
        if not is_terminal(sys.stdin):
            raise click.UsageError("--password asks at a terminal; use --password-stdin")
        password = ask_secret(_password_prompt(target.host, target.username) if target else "password: ")
    else:
        return None
    if not password:
        raise click.UsageError("The password is empty")
    return password


def _password_prompt(host: str | None, username: str | None) -> str:
    """As ssh has it."""
    whose = f"{username}@{host}'s " if username and host else ""
    return f"{whose}password: "


def _path_for_the_server(identity: str | None) -> str | None:
    """The server has another working directory; `~` is its own business."""
    if identity is None or identity.startswith("~"):
        return identity
    return os.path.abspath(identity)
