"""`[USER@]HOST[:PORT]` as people type it."""

from __future__ import annotations

import getpass
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click

from runicorn_remote.errors import RemoteError
from runicorn_remote.ssh.ssh_config import SshConfig
from runicorn_remote.ssh.target import Target as RemoteTarget

SSH_PORT = 22

_LOOKUP_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True)
class Target:
    """Where, and who; `username` and `port` are None where they were not given."""

    host: str
    username: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises `ValueError` with the end of a sentence.

        The user stands before the last `@`, the port behind the last `:`. An IPv6 address with a port
        needs its brackets; without one they may be left out.
        """
        username, at, place = text.rpartition("@")
        if at and not username:
            raise ValueError("the user is empty")
        if place.startswith("["):
            host, bracket, rest = place[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError("an IPv6 address looks like [::1] or [::1]:22")
            colon, port = rest[:1], rest[1:]
        elif place.count(":") > 1:
            host, colon, port = place, "", ""
        else:
            host, colon, port = place.partition(":")
        if not host:
            raise ValueError("the host is empty")
        return cls(host, username or None, port_number(port) if colon else None)

    @cached_property
    def user(self) -> str:
        """The name to log in with, as ssh has it: User of ssh_config or one's own, unless one was given."""
        return self.username or configured_user(self.host) or login_name()

    @property
    def connection_id(self) -> str:
        """`user@host:port`, as the API names a connection."""
        return f"{self.user}@{bracketed(self.host)}:{self.port or SSH_PORT}"


def port_number(text: str) -> int:
    """Raises `ValueError` with the end of a sentence."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= 65535:
        raise ValueError(f"{text!r} is not a port: 1 to 65535")
    return number


def shown_address(host: str, port: int) -> str:
    """In the form that `Target.parse` reads; the usual port is left out."""
    return bracketed(host) if port == SSH_PORT else f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def configured_user(host: str) -> str | None:
    """What ssh_config of this machine and user says about `host`; None if it cannot be asked."""
    config = SshConfig("auto", commands=True, timeout=_LOOKUP_TIMEOUT, program=shutil.which("ssh"))
    try:
        RemoteTarget.of(host, SSH_PORT, "user")
        return config.options(host).user
    except RemoteError:  # the server says what is wrong, when it looks there
        return None


def login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:  # no such account; a system without accounts
        raise click.UsageError("Whose account? Give it as USER@HOST.") from error


class TargetType(click.ParamType):
    """A `Target`."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        if isinstance(value, Target):
            return value
        try:
            return Target.parse(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class PortType(click.ParamType):
    """A TCP port."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return port_number(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class AssignmentType(click.ParamType):
    """`NAME=VALUE`, as a pair."""

    name = "assignment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not (name and equals):
            self.fail(f"{value!r} does not look like NAME=VALUE", param, ctx)
        return name, text


def target_argument(*, required: bool = True) -> Any:
    return click.argument(
        "target",
        metavar="[USER@]HOST[:PORT]" if required else "[[USER@]HOST[:PORT]]",
        type=TargetType(),
        required=required,
    )
