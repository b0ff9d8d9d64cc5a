"""What all client verbs share: `--url`, `--token-file`, `--json`, the client, and how errors end."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runicorn_remote.cli.failures import failure_of
from runicorn_remote.cli.output import write_json

if TYPE_CHECKING:
    from runicorn_remote.client import RunicornRemoteClient

# The client's own; it stands here so that `--help` need not import the client.
DEFAULT_URL = "http://127.0.0.1:23300"
URL_VARIABLE = "RUNICORN_REMOTE_URL"
TOKEN_VARIABLE = "RUNICORN_REMOTE_TOKEN"  # noqa: S105

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass
class Options:
    """What the shared options say. They may stand before the verb and behind it; the last one counts."""

    url: str | None = None
    token_file: str | None = None
    as_json: bool = False


class Verb:
    """One run of a client verb. Its client is made when it is first needed, and closed at the end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.as_json = options.as_json
        self.url = options.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        self._client: RunicornRemoteClient | None = None

    @property
    def client(self) -> RunicornRemoteClient:
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self, timeout: float | None = None) -> RunicornRemoteClient:
        """Another one, for whoever closes it. `timeout` in seconds holds for each request."""
        from runicorn_remote.client import RunicornRemoteClient

        try:
            return RunicornRemoteClient(self.url, self._token(), timeout)
        except ValueError as error:
            raise click.UsageError(str(error).replace("base_url", "--url", 1)) from error

    def answer(self, document: Any, show: Callable[[], None]) -> None:
        """The result: `document` with `--json`, else what `show` prints."""
        if self.as_json:
            write_json(document)
        else:
            show()

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _token(self) -> str | None:
        if self._options.token_file is None:
            return os.environ.get(TOKEN_VARIABLE)
        try:
            return Path(self._options.token_file).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not text"
            raise click.UsageError(f"--token-file {self._options.token_file}: {reason}") from error


def client_verb(function: Callable[..., None]) -> Callable[..., None]:
    """A function of a `Verb` and its own arguments, as what click calls.

    Whatever the client raises becomes a `Failure`.
    """

    @shared_options
    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        import requests

        verb = Verb(shared())
        try:
            function(verb, *arguments, **options)
        except requests.RequestException as error:
            raise failure_of(error, verb.url) from error
        finally:
            verb.close()

    return run


def shared_options(function: AnyFunction) -> AnyFunction:
    """Add the options that end up in `Options`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document.", **_REMEMBERED),
        click.option("--token-file", metavar="FILE", help="Where the server's token is.", **_REMEMBERED),
        click.option("--url", metavar="URL", help=f"The server ({DEFAULT_URL}).", **_REMEMBERED),
    ):
        function = option(function)
    return function


def shared() -> Options:
    """Those of the command that runs."""
    return click.get_current_context().ensure_object(Options)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = context.ensure_object(Options)
    if value and parameter.name:
        setattr(options, parameter.name, value)


_REMEMBERED: dict[str, Any] = {"expose_value": False, "callback": _remember}
