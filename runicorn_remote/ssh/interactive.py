"""Keyboard-interactive authentication (RFC 4256): the host asks, a person answers, or the password does.

paramiko's own fallback answers every question with the password, one-time codes included, which costs
an attempt and tells the host's log the password. Here the password answers one question that looks
like it, once; everything else goes to whoever can ask a person.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.auth_strategy import AuthSource
from paramiko.common import cMSG_USERAUTH_INFO_RESPONSE

from runicorn_remote.errors import InteractionImpossible, LoginFailed
from runicorn_remote.ssh.target import Target

# A host that asks for more wants something else than a login.
_MOST_QUESTIONS = 10
_MOST_PROMPTS = 16
_LONGEST_TEXT = 1000
_ONE_TIME = re.compile(r"code|token|otp|one.?time|verification|factor|passcode|\bpin\b|duo|challenge", re.I)


@dataclass(frozen=True)
class Prompt:
    """One question as the host words it. `echo`: the answer may be shown while it is typed."""

    text: str
    echo: bool


@dataclass(frozen=True)
class Question:
    """What one request of the host asks at once. `target`: who asks, which may be a jump host."""

    target: Target
    name: str
    instructions: str
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class Person:
    """Somebody who can be asked.

    `ask` returns as many answers as there are prompts, or raises to end the login. It is called in the
    transport's thread and may hold it for `patience` seconds, all questions of a login together.
    """

    ask: Callable[[Question], Sequence[str]]
    patience: float


class KeyboardInteractive(AuthSource):
    """A source for `Authentication`. For one login."""

    def __init__(self, target: Target, password: str | None, person: Person | None) -> None:
        super().__init__(target.username)
        self._target = target
        self._password = password
        self._person = person
        self._questions = 0

    @property
    def asked(self) -> bool:
        """Whether the host asked anything; many offer the method and have no question."""
        return self._questions > 0

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """What the server wants beside; empty when it is content. Raises what paramiko raises.

        Raises `InteractionImpossible` when there is a question, and nobody to ask.
        """
        ordinary = transport.auth_timeout
        if self._person is not None:
            # paramiko has one deadline for the whole method, and people type slowly.
            transport.auth_timeout = self._person.patience + ordinary
        answered = threading.Event()
        transport.auth_handler = handler = _AuthHandler(transport, self._answer)
        try:
            handler.auth_interactive(self._target.username, handler.answer, answered)
            return list(handler.wait_for_response(answered))
        finally:
            transport.auth_timeout = ordinary

    def _answer(self, name: str, instructions: str, prompts: Sequence[Prompt]) -> Sequence[str]:
        """Called in the transport's thread. What it raises ends the login."""
        self._questions += 1
        if self._questions > _MOST_QUESTIONS:
            raise _asks_too_much()
        if not prompts:  # a mere message (RFC 4256, 3.2)
            return []
        password = self._password
        if password is not None and len(prompts) == 1 and _wants_password(prompts[0]):
            self._password = None
            return [password]
        if self._person is None:
            raise nobody_to_ask(self._target)
        return self._person.ask(Question(self._target, name, instructions, tuple(prompts)))


class _AuthHandler(AuthHandler):
    """Reads the questions with limits: paramiko believes any number of prompts, and any encoding."""

    def __init__(self, transport: paramiko.Transport, answer: Callable[..., Sequence[str]]) -> None:
        super().__init__(transport)
        self.answer: Any = answer

    def _parse_userauth_info_request(self, message: Any) -> None:
        if self.auth_method != "keyboard-interactive":
            raise paramiko.SSHException("A question that nobody asked for")
        name, instructions, _ = (_plain(message.get_binary()) for _ in range(3))
        count = message.get_int()
        if count > _MOST_PROMPTS:
            raise _asks_too_much()
        prompts = [Prompt(_plain(message.get_binary()), message.get_boolean()) for _ in range(count)]
        answers = self.answer(name, instructions, prompts)
        answer = paramiko.Message()
        answer.add_byte(cMSG_USERAUTH_INFO_RESPONSE)
        answer.add_int(len(answers))
        for text in answers:
            answer.add_string(text)
        transport: Any = self.transport
        transport._send_message(answer)


def nobody_to_ask(target: Target) -> InteractionImpossible:
    return InteractionImpossible(f"{target} asks for more than a key or a password")


def _asks_too_much() -> LoginFailed:
    return LoginFailed("The host asks for too much during the login", code="TOO_MANY_QUESTIONS")


def _wants_password(prompt: Prompt) -> bool:
    return not prompt.echo and not _ONE_TIME.search(prompt.text)


def _plain(text: bytes) -> str:
    """A host's words without what could move a terminal's cursor."""
    decoded = text.decode("utf-8", "replace")[:_LONGEST_TEXT]
    return "".join(character for character in decoded if character.isprintable() or character in "\n\t")
