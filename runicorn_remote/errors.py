"""Everything that can go wrong, as one tree a reader can draw.

    RemoteError
    ├── InvalidValue                    a value that parses and cannot be used
    │   ├── InvalidConnectionId
    │   ├── KeyUnusable                 PassphraseRequired, PassphraseWrong
    │   ├── HostKeyNotSeen
    │   ├── SavedServerMismatch         ChallengeUnusable, LaunchArgumentsUnusable
    │   └── NotADirectory
    ├── AccessDenied                    TokenRequired, TargetForbidden
    ├── NotFound
    │   ├── ConnectionNotFound          SessionNotFound, InstallNotFound, SavedServerNotFound
    │   ├── EnvironmentNotFound
    │   └── RemotePathNotFound
    ├── PathForbidden
    ├── Conflict
    │   ├── HostKeyConfirmationRequired
    │   └── LocalPortInUse
    ├── IdempotencyKeyReused            for another request
    ├── Busy                            a limit of our own; try again later: LoginBackoff
    ├── StateError                      our files on disk cannot be read or written
    ├── RemoteCommandFailed             a script on the host failed
    ├── InstallFailed                   InstallCancelled
    ├── ViewerStartFailed               RunicornNotInstalled, ViewerExited, StartCancelled
    └── SSHError
        ├── Unreachable                 no SSH service answers there
        ├── LoginFailed                 AuthenticationFailed (NothingToLogInWith), HostKeyRevoked,
        │                               NoCommonAlgorithm (WeakAlgorithmsOnly)
        │   └── InteractiveAuthRequired     the host asks what a person has to answer
        ├── SshConfigUnusable           ssh_config says something that cannot be done
        └── LinkLost                    an established connection went away

No exception here knows an HTTP status: `runicorn_remote.api.errors` has the one table.
`code` is a stable upper-case word that clients branch on, `hint` says what to do. The message is a
sentence for a person; it never holds a secret.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


class RemoteError(Exception):
    """Base of all errors this package raises on purpose.

    `reason` is the sentence without the class's `prefix`; `str(error)` has both.
    """

    code = "ERROR"
    prefix = ""
    default_hint: str | None = None

    def __init__(self, reason: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"{self.prefix}{reason}")
        self.reason = reason
        if code is not None:
            self.code = code
        self.hint = hint if hint is not None else self.default_hint

    @property
    def detail(self) -> Any:
        """What clients are told: the sentence, unless they need more to act."""
        return str(self)


class InvalidValue(RemoteError):
    code = "INVALID_VALUE"


class InvalidConnectionId(InvalidValue):
    code = "INVALID_CONNECTION_ID"
    prefix = "Invalid connection_id format: "
    default_hint = "A connection_id is user@host:port, as /api/remote/connect returns it."


class KeyUnusable(InvalidValue):
    """The private key cannot be read, or is not a key."""

    code = "KEY_UNUSABLE"


class PassphraseRequired(KeyUnusable):
    code = "PASSPHRASE_REQUIRED"


class PassphraseWrong(KeyUnusable):
    code = "PASSPHRASE_WRONG"


class HostKeyNotSeen(InvalidValue):
    """A key to accept that no handshake has shown of late."""

    code = "HOST_KEY_NOT_SEEN"
    default_hint = "Connect to the host first: accept the key that the 409 shows, within 10 minutes."


class SavedServerMismatch(InvalidValue):
    code = "SAVED_SERVER_MISMATCH"
    prefix = "Saved server mismatch for field: "


class ChallengeUnusable(InvalidValue):
    """Answers to a question of a host that cannot be used."""

    code = "CHALLENGE_UNKNOWN"


class LaunchArgumentsUnusable(InvalidValue):
    """They are not what the launch command of that host needs."""

    code = "LAUNCH_ARGUMENT_INVALID"


class NotADirectory(InvalidValue):
    code = "NOT_A_DIRECTORY"


class AccessDenied(RemoteError):
    """A guard of our own refuses the caller."""

    code = "ACCESS_DENIED"


class TokenRequired(AccessDenied):
    code = "TOKEN_REQUIRED"


class TargetForbidden(AccessDenied):
    """The host is one that this server is set not to connect to."""

    code = "TARGET_FORBIDDEN"


class NotFound(RemoteError):
    code = "NOT_FOUND"


class ConnectionNotFound(NotFound):
    code = "CONNECTION_NOT_FOUND"
    prefix = "Connection not found or inactive: "
    default_hint = "POST /api/remote/connect first."


class SessionNotFound(NotFound):
    code = "SESSION_NOT_FOUND"
    prefix = "Session not found: "


class InstallNotFound(NotFound):
    code = "INSTALL_NOT_FOUND"
    prefix = "Installation not found: "


class SavedServerNotFound(NotFound):
    code = "SAVED_SERVER_NOT_FOUND"
    prefix = "Saved server not found: "


class EnvironmentNotFound(NotFound):
    code = "ENVIRONMENT_NOT_FOUND"


class RemotePathNotFound(NotFound):
    code = "PATH_NOT_FOUND"


class PathForbidden(RemoteError):
    code = "PATH_FORBIDDEN"


class Conflict(RemoteError):
    code = "CONFLICT"


@dataclass(frozen=True)
class HostKeyProblem:
    """A host key a person has to decide on. All values are those of the handshake."""

    host: str
    port: int
    known_hosts_host: str
    key_type: str
    fingerprint_sha256: str
    public_key: str
    reason: str  # "unknown" or "changed"
    expected_fingerprint_sha256: str | None = None
    expected_public_key: str | None = None


class HostKeyConfirmationRequired(Conflict):
    code = "HOST_KEY_CONFIRMATION_REQUIRED"

    def __init__(self, problem: HostKeyProblem, hint: str | None = None) -> None:
        super().__init__("Host key verification failed", hint=hint)
        self.problem = problem

    @property
    def detail(self) -> dict[str, Any]:
        """`{"code", "message", "host_key": {...}}`: the question a person has to answer."""
        host_key = {name: value for name, value in asdict(self.problem).items() if value is not None}
        return {"code": self.code, "message": str(self), "host_key": host_key}


class LocalPortInUse(Conflict):
    code = "LOCAL_PORT_IN_USE"


class IdempotencyKeyReused(RemoteError):
    code = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key came with another request before; use a new one")

    @property
    def detail(self) -> list[dict[str, Any]]:
        """As of any other field of a request that cannot be."""
        return [{"loc": ["headers", "Idempotency-Key"], "msg": str(self), "type": "value_error"}]


class Busy(RemoteError):
    """A limit of the server's own is reached. `retry_after` is in seconds."""

    code = "BUSY"

    def __init__(self, reason: str, *, retry_after: int = 5, code: str | None = None) -> None:
        super().__init__(reason, code=code)
        self.retry_after = retry_after


class LoginBackoff(Busy):
    """Logins to this account have failed, and it is left alone for a while."""

    code = "LOGIN_BACKOFF"
    default_hint = (
        "Each failure doubles the pause, up to the setting login_backoff_max: sshd would punish this "
        "machine's address, and so everybody who logs in from here."
    )


class StateError(RemoteError):
    """One of our own files cannot be used. Nothing was overwritten."""

    code = "STATE_ERROR"


class RemoteCommandFailed(RemoteError):
    """A script ran (or could not run) on the host and gave no usable answer."""

    code = "REMOTE_COMMAND_FAILED"


class ViewerStartFailed(RemoteError):
    """The viewer did not come up. `log_tail` holds the last lines it wrote, oldest first."""

    code = "VIEWER_START_FAILED"
    prefix = "Failed to start Remote Viewer: "

    def __init__(
        self,
        reason: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        log_tail: tuple[str, ...] = (),
    ) -> None:
        tail = "\nLast lines of the viewer's log:\n" + "\n".join(log_tail) if log_tail else ""
        super().__init__(f"{reason}{tail}", code=code, hint=hint)
        self.log_tail = log_tail


class RunicornNotInstalled(ViewerStartFailed):
    code = "RUNICORN_NOT_INSTALLED"
    default_hint = (
        "POST /api/remote/environments/install puts it there, or into an environment of its own; "
        "so does: runicorn-remote install USER@HOST"
    )


class ViewerExited(ViewerStartFailed):
    code = "VIEWER_EXITED"


class StartCancelled(ViewerStartFailed):
    code = "START_CANCELLED"


class InstallFailed(RemoteError):
    """Runicorn was not put into the environment. What was there before still is."""

    code = "INSTALL_FAILED"
    prefix = "Runicorn was not installed: "


class InstallCancelled(InstallFailed):
    code = "INSTALL_CANCELLED"


class SSHError(RemoteError):
    code = "SSH_ERROR"
    prefix = "Connection failed: "


class Unreachable(SSHError):
    """No SSH service answers at that address: name, route, refused, time-out, no banner."""

    code = "HOST_UNREACHABLE"


class LoginFailed(SSHError):
    """An SSH service answers, and the login did not succeed."""

    code = "LOGIN_FAILED"


class AuthenticationFailed(LoginFailed):
    code = "AUTH_FAILED"


class NothingToLogInWith(AuthenticationFailed):
    """There is neither password nor key, so nothing was tried."""


class InteractionImpossible(AuthenticationFailed):
    """The host asks what only a person can answer, in a login that nobody is there for."""

    code = "INTERACTIVE_AUTH_REQUIRED"
    default_hint = "Connect again (POST /api/remote/connect) and answer the host's questions."


class InteractiveAuthRequired(LoginFailed):
    """The host asks; the login waits for the answers. `prompts`: (text, whether the answer may be shown).

    `expires_in`: seconds until the login is given up. `host`, `port`, `username`: who asks.
    """

    code = "INTERACTIVE_AUTH_REQUIRED"
    default_hint = "Send the same request again with challenge_id and responses, one for each prompt."

    def __init__(
        self,
        reason: str,
        *,
        challenge_id: str,
        host: str,
        port: int,
        username: str,
        name: str,
        instructions: str,
        prompts: tuple[tuple[str, bool], ...],
        expires_in: float,
    ) -> None:
        super().__init__(reason)
        self.challenge_id = challenge_id
        self.host = host
        self.port = port
        self.username = username
        self.name = name
        self.instructions = instructions
        self.prompts = prompts
        self.expires_in = expires_in

    @property
    def detail(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": str(self),
            "challenge_id": self.challenge_id,
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "name": self.name,
            "instructions": self.instructions,
            "prompts": [{"prompt": text, "echo": echo} for text, echo in self.prompts],
            "expires_in": round(self.expires_in, 1),
        }


class HostKeyRevoked(LoginFailed):
    code = "HOST_KEY_REVOKED"


class NoCommonAlgorithm(LoginFailed):
    code = "NO_COMMON_ALGORITHM"


class WeakAlgorithmsOnly(NoCommonAlgorithm):
    """The host has only what is switched off here."""

    code = "WEAK_ALGORITHMS_ONLY"
    default_hint = (
        "Update that sshd. Until then, whoever runs this server may set allow_weak_algorithms = true."
    )


class SshConfigUnusable(SSHError):
    """What ssh_config says of a host cannot be read, or cannot be done. Nothing was sent."""

    code = "SSH_CONFIG_UNUSABLE"


class LinkLost(SSHError):
    """A connection that was up is gone, or does not answer within its deadline."""

    code = "LINK_LOST"

    @property
    def has_answered(self) -> bool:
        """Whether it is alive after all: a host that refuses a channel has answered."""
        return self.code == "CHANNEL_REFUSED"
