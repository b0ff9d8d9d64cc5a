"""Logins that ask a person: second factors, one-time codes, changed passwords.

An HTTP request cannot stay open while somebody looks for a phone. So the login goes on in a thread of
its own: when the host asks, the request ends with the question and a challenge id, and a later
request brings the answers and goes on waiting. One login at a time for one identity on one target.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    Busy,
    ChallengeUnusable,
    InteractiveAuthRequired,
    LinkLost,
    RemoteError,
    Unreachable,
)
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.interactive import Person, Question
from runicorn_remote.ssh.target import Credentials, Target

logger = logging.getLogger(__name__)

MAX_LOGINS = 32
_ENDS_WITHIN = 5.0

Opener = Callable[[Target, Credentials, Person], RemoteHost]
Key = tuple[Target, str]


class InteractiveLogins:
    """The logins under way. Owns their threads. May be called from any thread."""

    def __init__(self, opener: Opener, clock: Clock, *, patience: float, step_timeout: float) -> None:
        """`opener` logs in. `patience`: seconds for all answers; `step_timeout`: for what lies between."""
        self._opener = opener
        self._patience = patience
        self._step_timeout = step_timeout
        self._lock = threading.Lock()
        self._logins: dict[Key, _Login] = {}
        self._threads = ThreadGroup(clock)
        self._closed = False

    def begin(self, target: Target, credentials: Credentials) -> RemoteHost:
        """Log in. Raises what the opener raises, and `InteractiveAuthRequired` with the host's question.

        Somebody who asks again while a question is open gets the same question.
        """
        key = (target, credentials.identity)
        with self._lock:
            if self._closed:
                raise LinkLost("The server is shutting down")
            login = self._logins.get(key)
            if login is not None:
                challenge = login.challenge()
                if challenge is not None:
                    raise challenge
            if len(self._logins) >= MAX_LOGINS:
                raise Busy("Too many logins wait for answers", code="TOO_MANY_LOGINS", retry_after=30)
            login = _Login(self._patience)
            self._logins[key] = login
        if not self._threads.start(f"login-{target}", self._run, login, key, credentials):
            self._forget(login, key)
            raise Busy("No thread can be started for the login", code="TOO_MANY_LOGINS", retry_after=30)
        return login.next_step(self._step_timeout)

    def resume(
        self, target: Target, credentials: Credentials, challenge_id: str, answers: Sequence[str]
    ) -> RemoteHost:
        """Go on with a login. Raises as `begin`, and `ChallengeUnusable`; then the question stays open."""
        with self._lock:
            login = self._logins.get((target, credentials.identity))
        if login is None:
            raise unknown_challenge()
        login.answer(challenge_id, answers)
        return login.next_step(self._step_timeout)

    def close(self) -> None:
        """End them all. Waits a few seconds for their threads."""
        with self._lock:
            self._closed = True
            logins = list(self._logins.values())
        for login in logins:
            login.abandon()
        self._threads.close()
        self._threads.join(_ENDS_WITHIN)

    def _run(self, login: _Login, key: Key, credentials: Credentials) -> None:
        """The thread of one login."""
        target = key[0]
        try:
            host = self._opener(target, credentials, Person(login.ask, self._patience))
        except RemoteError as error:
            login.failed(error)
        except BaseException as error:
            logger.exception("The login to %s failed unexpectedly", target)
            login.failed(error)
        else:
            if not login.succeeded(host):
                host.close()
        finally:
            self._forget(login, key)

    def _forget(self, login: _Login, key: Key) -> None:
        with self._lock:
            if self._logins.get(key) is login:
                del self._logins[key]


class _Login:
    """One login: its thread asks, requests wait for what comes next and bring answers."""

    def __init__(self, patience: float) -> None:
        self._changed = threading.Condition()
        self._answer_until = time.monotonic() + patience
        self._question: Question | None = None
        self._challenge_id = ""
        self._answers: Sequence[str] | None = None
        self._host: RemoteHost | None = None
        self._error: BaseException | None = None
        self._abandoned = False

    def challenge(self) -> InteractiveAuthRequired | None:
        """The open question as the error that carries it."""
        with self._changed:
            question = self._question
            if question is None:
                return None
            return InteractiveAuthRequired(
                f"{question.target} asks: {' '.join(prompt.text.strip() for prompt in question.prompts)}",
                challenge_id=self._challenge_id,
                host=question.target.host,
                port=question.target.port,
                username=question.target.username,
                name=question.name,
                instructions=question.instructions,
                prompts=tuple((prompt.text, prompt.echo) for prompt in question.prompts),
                expires_in=max(0.0, self._answer_until - time.monotonic()),
            )

    def next_step(self, timeout: float) -> RemoteHost:
        """Wait for the host's next question (raised), the connection, or the failure (raised)."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            if self._host is not None:
                host, self._host = self._host, None
                return host
            if self._error is not None:
                raise self._error
            self._abandoned = self._question is None
        challenge = self.challenge()
        if challenge is not None:
            raise challenge
        raise Unreachable("The host did not go on with the login in time", code="HANDSHAKE_TIMEOUT")

    def answer(self, challenge_id: str, answers: Sequence[str]) -> None:
        with self._changed:
            if self._question is None or not secrets.compare_digest(
                challenge_id.encode(), self._challenge_id.encode()
            ):
                raise unknown_challenge()
            wanted = len(self._question.prompts)
            if len(answers) != wanted:
                raise ChallengeUnusable(
                    f"The challenge has {wanted} prompts, and {len(answers)} responses came",
                    code="CHALLENGE_RESPONSES",
                    hint="Send one response for each prompt, in their order; the challenge is still open.",
                )
            self._question = None
            self._answers = list(answers)
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody waits for it any more: end it, and close what it may still open."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    # --- in the login's own threads

    def ask(self, question: Question) -> Sequence[str]:
        """Show the question, wait for answers. Raises `ChallengeUnusable` when none come."""
        with self._changed:
            self._question = question
            self._challenge_id = secrets.token_urlsafe(24)
            self._answers = None
            self._changed.notify_all()
            remaining = self._answer_until - time.monotonic()
            self._changed.wait_for(lambda: self._answers is not None or self._abandoned, max(0.0, remaining))
            answers, self._answers = self._answers, None
            self._question = None
        if answers is None:
            raise ChallengeUnusable("Nobody answered in time", code="CHALLENGE_EXPIRED")
        return answers

    def succeeded(self, host: RemoteHost) -> bool:
        """False if nobody wants the connection any more."""
        with self._changed:
            if self._abandoned:
                return False
            self._host = host
            self._changed.notify_all()
            return True

    def failed(self, error: BaseException) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _has_news(self) -> bool:
        return any(item is not None for item in (self._question, self._host, self._error))


def unknown_challenge() -> ChallengeUnusable:
    return ChallengeUnusable(
        "That challenge is unknown, answered or expired",
        code="CHALLENGE_UNKNOWN",
        hint="Send the request again without challenge_id and responses; the host asks anew.",
    )
