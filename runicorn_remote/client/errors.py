"""What the API answers instead of a result, as exceptions.

    requests.HTTPError
    └── RunicornRemoteError
        ├── BadRequest                      400 and other 4xx: a value that cannot be used
        │   ├── KeyUnusable                 PassphraseRequired, PassphraseWrong
        │   └── ValidationFailed            422: fields that are missing or ill-typed
        ├── Unauthorized                    401: the token
        ├── Forbidden                       403
        ├── NotFound                        404: ConnectionNotFound, SessionNotFound, EnvironmentNotFound
        ├── Conflict                        409: HostKeyConfirmationRequired, LocalPortInUse
        ├── Busy                            503 or 429 with Retry-After: a limit of the server's
        ├── HostUnreachable                 503: no SSH service answers there
        │   └── LinkLost                    an SSH connection that was up is gone
        ├── LoginFailed                     AuthenticationFailed, HostKeyRevoked
        │   └── InteractiveAuthRequired     401: the host asks what a person has to answer
        ├── ViewerStartFailed               RunicornNotInstalled, StartCancelled
        ├── ServerError                     any other 5xx
        └── UnexpectedAnswer                whatever answers there is not this API

That the server itself cannot be reached, or does not answer in time, is `requests.ConnectionError`
and `requests.Timeout`, as always with requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests

from runicorn_remote.client.challenge import Challenge
from runicorn_remote.client.host_key import HostKey

if TYPE_CHECKING:
    from runicorn_remote.client.shapes import Install, ViewerSession


class RunicornRemoteError(requests.HTTPError):
    """An answer that is an error. `str(error)` is a sentence for a person, without any secret.

    `status_code`; `code`, a stable upper-case word to branch on, empty if there is none; `detail` as it
    was sent (a sentence, or a list or a dict); `hint`, what to do, or None; `response`.
    """

    response: requests.Response

    def __init__(
        self,
        message: str,
        *,
        response: requests.Response | None = None,
        detail: Any = None,
        code: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, response=response)
        self.status_code = response.status_code if response is not None else 0
        self.detail = detail
        self.code = code
        self.hint = hint


class BadRequest(RunicornRemoteError):
    """A value that cannot be used; `code` says which kind."""


class KeyUnusable(BadRequest):
    """The private key cannot be read, or is not a key."""


class PassphraseRequired(KeyUnusable):
    """The private key is encrypted, and no passphrase was given."""


class PassphraseWrong(KeyUnusable):
    """The passphrase does not open the private key."""


class ValidationFailed(BadRequest):
    """Fields that are missing or ill-typed."""

    @property
    def errors(self) -> list[dict[str, Any]]:
        """All faults: `{"loc": ["body", "host"], "msg": …, "type": …}`."""
        return self.detail if isinstance(self.detail, list) else []


class Unauthorized(RunicornRemoteError):
    """The server wants a token, or another one."""


class Forbidden(RunicornRemoteError):
    """The server refuses this caller, or the host refuses this path."""


class NotFound(RunicornRemoteError):
    """There is no such thing; `code` says what is missing."""


class ConnectionNotFound(NotFound):
    """There is no live connection with this id: `connect` first."""


class SessionNotFound(NotFound):
    """There is no viewer session with this id (any more)."""


class EnvironmentNotFound(NotFound):
    """The host has no Python environment of this name."""


class Conflict(RunicornRemoteError):
    """Something else is in the way."""


class LocalPortInUse(Conflict):
    """The `local_port` is taken. Nothing was started."""


class HostKeyConfirmationRequired(Conflict):
    """The host's key is unknown, or not the one that is stored: a person has to decide on `host_key`."""

    host_key: HostKey
    _accept: Callable[[HostKey], object]

    def accept(self) -> None:
        """Trust the key from now on, in place of the stored one. Then repeat the request."""
        self._accept(self.host_key)


class Busy(RunicornRemoteError):
    """A limit of the server's own is reached. `retry_after` is in seconds, None if it does not say."""

    @property
    def retry_after(self) -> int | None:
        value = self.response.headers.get("Retry-After", "")
        return int(value) if value.isascii() and value.isdigit() else None


class HostUnreachable(RunicornRemoteError):
    """No SSH service answers at that address: name, route, refused, time-out, no banner."""


class LinkLost(HostUnreachable):
    """An SSH connection that was up is gone, or does not answer within its deadline."""


class LoginFailed(RunicornRemoteError):
    """An SSH service answers, and the login did not succeed."""


class AuthenticationFailed(LoginFailed):
    """The host takes none of the credentials."""


class InteractiveAuthRequired(LoginFailed):
    """The host asks for more, such as a one-time code; `challenge` has the questions.

    Pass an `on_challenge` to answer them. The login waits for `challenge.expires_in` seconds.
    """

    challenge: Challenge


class HostKeyRevoked(LoginFailed):
    """The host's key is marked as revoked. It cannot be accepted."""


class ViewerStartFailed(RunicornRemoteError):
    """The viewer did not come up. The sentence ends with the last lines of its log."""


class RunicornNotInstalled(ViewerStartFailed):
    """The environment has no runicorn."""


class StartCancelled(ViewerStartFailed):
    """The session was stopped while it was starting."""


class ServerError(RunicornRemoteError):
    """Something else went wrong on the server or on the host."""


class UnexpectedAnswer(RunicornRemoteError):
    """Something answers at that address, and it is not this API."""


class ViewerEnded(RuntimeError):
    """The viewer that was waited for ended. `session` is its last state. Not an answer of the API's."""

    def __init__(self, message: str, session: ViewerSession | None = None) -> None:
        super().__init__(message)
        self.session = session


class InstallFailed(RuntimeError):
    """An installation did not succeed, or was cancelled. `install` is its last state; `code`, `hint`.

    Not an answer of the API's: it had begun when it failed.
    """

    def __init__(self, message: str, install: Install) -> None:
        super().__init__(message)
        self.install = install
        self.code = install["errorCode"]
        self.hint = install["hint"]
