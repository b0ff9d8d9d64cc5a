"""What a host asks at the login, typed at the terminal."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import click

from runicorn_remote.cli.failures import AUTHENTICATION, Failure
from runicorn_remote.cli.output import printable, say
from runicorn_remote.cli.target import shown_address

if TYPE_CHECKING:
    from runicorn_remote.client import Challenge


def answers_to(challenge: Challenge) -> list[str]:
    """One answer a prompt. Everything shown is the host's own text; it is named, so that nobody takes
    it for ours."""
    say(f"{challenge.username}@{shown_address(challenge.host, challenge.port)} asks:")
    for text in (challenge.name, challenge.instructions):
        if text.strip():
            say(text.rstrip())
    return [_typed(prompt.text, echo=prompt.echo) for prompt in challenge.prompts]


def ask_secret(prompt: str) -> str:
    """A line from the terminal, without echo."""
    try:
        return getpass.getpass(printable(prompt))
    except EOFError:
        raise Failure("Nothing was typed", exit_code=AUTHENTICATION, code="NO_PASSWORD") from None


def _typed(prompt: str, *, echo: bool) -> str:
    if not echo:
        return ask_secret(prompt)
    click.echo(printable(prompt), nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        raise Failure("Nothing was typed", exit_code=AUTHENTICATION, code="NO_ANSWER")
    return line.rstrip("\r\n")
