"""From errors to a sentence, a JSON object, and an exit status."""

from __future__ import annotations

import shlex
from typing import IO, TYPE_CHECKING, Any

import click

from runicorn_remote.cli.host_key import algorithm
from runicorn_remote.cli.output import say, write_json
from runicorn_remote.cli.target import shown_address

if TYPE_CHECKING:
    import requests

    from runicorn_remote.client import HostKey

OK = 0
FAILED = 1
USAGE = 2
NOT_REACHABLE = 3
HOST_KEY = 4
AUTHENTICATION = 5
NOT_FOUND = 6
INTERRUPTED = 130

EXIT_STATUSES = f"""Exit status:
  {OK}    done
  {FAILED}    failed
  {USAGE}    wrong usage, or a setting that cannot be used
  {NOT_REACHABLE}    the server cannot be reached
  {HOST_KEY}    the host's key has to be confirmed
  {AUTHENTICATION}    authentication failed
  {NOT_FOUND}    no such connection, viewer, environment, path, ...
  {INTERRUPTED}  interrupted"""

START_IT = "Start it: runicorn-remote serve"


class Failure(click.ClickException):
    """A command that did not do what it was asked to.

    `detail`, `code`, `hint` and `status` (of HTTP, None if there was no answer) as the API has them;
    `detail` is the message unless given. With `as_json` that is what is shown.
    """

    as_json = False

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = FAILED,
        code: str = "FAILED",
        hint: str | None = None,
        detail: Any = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]
        self.code = code
        self.hint = hint
        self.detail = message if detail is None else detail
        self.status = status

    def show(self, file: IO[Any] | None = None) -> None:
        if self.as_json:
            write_json({"detail": self.detail, "code": self.code, "hint": self.hint, "status": self.status})
            return
        say(f"runicorn-remote: {self.message}")
        if self.hint:
            say(self.hint)


def not_found(message: str, code: str, hint: str | None = None) -> Failure:
    return Failure(message, exit_code=NOT_FOUND, code=code, hint=hint)


def failure_of(error: requests.RequestException, url: str) -> Failure:
    """What an exception of the client means here. `url` is the server's."""
    import requests

    from runicorn_remote.client import RunicornRemoteError, UnexpectedAnswer

    if isinstance(error, UnexpectedAnswer):
        return Failure(
            str(error),
            exit_code=NOT_REACHABLE,
            code="UNEXPECTED_ANSWER",
            hint="Is --url right?",
            status=error.status_code or None,
        )
    if isinstance(error, RunicornRemoteError):
        return _of_answer(error)
    if isinstance(error, requests.ReadTimeout):
        return Failure(f"The server at {url} did not answer in time", code="TIMEOUT")
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return Failure(
            f"No server answers at {url}", exit_code=NOT_REACHABLE, code="SERVER_NOT_REACHABLE", hint=START_IT
        )
    # The address itself, a redirection, an answer that breaks off.
    return Failure(f"{url}: {error}", exit_code=NOT_REACHABLE, code="SERVER_NOT_REACHABLE")


def _of_answer(error: Any) -> Failure:
    from runicorn_remote.client import (
        AuthenticationFailed,
        ConnectionNotFound,
        HostKeyConfirmationRequired,
        InteractiveAuthRequired,
        KeyUnusable,
        NotFound,
        RunicornNotInstalled,
        Unauthorized,
    )

    message, hint, exit_code = str(error), error.hint, FAILED
    if isinstance(error, HostKeyConfirmationRequired):
        exit_code = HOST_KEY
        message, hint = _unconfirmed(error.host_key)
    elif isinstance(error, AuthenticationFailed | InteractiveAuthRequired | KeyUnusable | Unauthorized):
        exit_code = AUTHENTICATION
    elif isinstance(error, NotFound):
        exit_code = NOT_FOUND
    # The API's own hints speak to programs.
    if isinstance(error, Unauthorized):
        hint = "The server's token: --token-file FILE, or RUNICORN_REMOTE_TOKEN in the environment"
    if isinstance(error, InteractiveAuthRequired):
        hint = "Only a person can answer that: run this at a terminal"
    if isinstance(error, ConnectionNotFound):
        hint = "Log in first: runicorn-remote connect USER@HOST"
    if isinstance(error, RunicornNotInstalled):
        hint = (
            "Install it with: runicorn-remote install USER@HOST --env NAME\n"
            "or, without --env, into an environment of its own"
        )
    return Failure(
        message,
        exit_code=exit_code,
        code=error.code or "ERROR",
        hint=hint,
        detail=error.detail,
        status=error.status_code,
    )


def _unconfirmed(key: HostKey) -> tuple[str, str]:
    """-> message, hint."""
    address = shown_address(key.host, key.port)
    what = f"{algorithm(key.key_type)} {key.fingerprint_sha256}"
    message = (
        f"The host key of {address} has CHANGED: it is now {what}, and "
        f"{key.expected_fingerprint_sha256 or 'another one'} is trusted"
        if key.changed
        else f"The host key of {address} is not confirmed: {what}"
    )
    command = f"runicorn-remote hosts accept {shlex.quote(address)} --fingerprint {key.fingerprint_sha256}"
    return message, f"Compare it with what the host's administrator says; then: {command}"
