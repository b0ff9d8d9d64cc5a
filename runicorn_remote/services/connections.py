"""The connections users hold, and what proves who they are."""

from __future__ import annotations

import builtins
import threading
from dataclasses import dataclass
from typing import Any

from runicorn_remote.errors import ConnectionNotFound, InvalidValue, SavedServerMismatch, StateError
from runicorn_remote.services.interactive_logins import InteractiveLogins
from runicorn_remote.services.saved_connections import SavedConnections
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.pool import ConnectionPool, Opener
from runicorn_remote.ssh.target import Credentials, Target

# The holder in the pool that stands for the people at the API; viewers hold by their session id.
USER = "user"


@dataclass(frozen=True, repr=False)
class Login:
    """What a request brought. Absent values are None; a saved server supplies what is missing."""

    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = None
    private_key: str | None = None
    private_key_path: str | None = None
    passphrase: str | None = None
    use_agent: bool = True
    saved_server_id: str | None = None
    challenge_id: str | None = None
    responses: tuple[str, ...] = ()

    @property
    def has_secret(self) -> bool:
        return any((self.password, self.private_key, self.private_key_path, self.saved_server_id))


@dataclass(frozen=True, repr=False)
class _Held:
    """A connection the user holds, and what opened it."""

    host: RemoteHost
    credentials: Credentials


class Connections:
    """Thread-safe. Its lock is never held while a host is asked."""

    def __init__(
        self, pool: ConnectionPool, saved_connections: SavedConnections, logins: InteractiveLogins
    ) -> None:
        self._pool = pool
        self._logins = logins
        self._saved_connections = saved_connections
        self._lock = threading.Lock()
        self._held: dict[Target, _Held] = {}

    def connect(self, login: Login) -> tuple[Target, Credentials]:
        """Log in, or reuse the live connection of the same identity; the user holds it afterwards.

        Returns where, and with what, for the sessions that wait for just that.

        Raises what `runicorn_remote.ssh.connect.Connector` raises, `InteractiveAuthRequired`,
        `SavedServerNotFound`, `SavedServerMismatch`, `InvalidValue`.
        """
        target, credentials = self.resolve(login)
        host = self._pool.open(target, credentials, USER, self._opener(login))
        with self._lock:
            previous = self._held.get(target)
            self._held[target] = _Held(host, credentials)
        if previous is not None and previous.host is not host:
            self._pool.release(previous.host, USER)
        return target, credentials

    def open_for(self, login: Login, holder: str) -> tuple[RemoteHost, Credentials]:
        """A connection for a viewer session, and what opened it. Without any secret, the user's serves."""
        target, credentials = self.resolve(login)
        if not login.has_secret:
            with self._lock:
                held = self._held.get(target)
            credentials = held.credentials if held is not None else credentials
        host = self._pool.open(target, credentials, holder, self._opener(login), for_command=True)
        return host, credentials

    def reopen(self, target: Target, credentials: Credentials, holder: str) -> RemoteHost:
        """The connection after a lost link. The user's hold moves to it, if it was on the lost one."""
        host = self._pool.open(target, credentials, holder)
        with self._lock:
            held = self._held.get(target)
            moves = held is not None and held.credentials == credentials and held.host is not host
            if moves:
                self._held[target] = _Held(host, credentials)
        if moves:
            self._pool.hold(host, USER)
            with self._lock:
                held = self._held.get(target)
            if held is None or held.host is not host:  # the user has disconnected in between
                self._pool.release(host, USER)
        return host

    def get(self, connection_id: str) -> RemoteHost:
        """The connection behind an id. Raises `InvalidConnectionId` or `ConnectionNotFound`."""
        host = self._live(Target.parse(connection_id))
        if host is None:
            raise ConnectionNotFound(connection_id)
        return host

    def list(self) -> builtins.list[dict[str, Any]]:
        """The connections users hold, in the shape of `/sessions`. Touches no network."""
        with self._lock:
            held = list(self._held.items())
        return [
            {
                "key": target.connection_id,
                "host": target.host,
                "port": target.port,
                "username": target.username,
                "connected": connection.host.connected,
            }
            for target, connection in held
        ]

    def disconnect(self, host: str, port: int, username: str) -> bool:
        """End the user's hold. False if there was none. Viewers over the same connection keep theirs."""
        target = Target.of(host, port, username)
        with self._lock:
            held = self._held.pop(target, None)
        if held is None:
            return False
        self._pool.release(held.host, USER)
        return True

    def resolve(self, login: Login) -> tuple[Target, Credentials]:
        """Fill in from the saved server and validate."""
        values = {name: getattr(login, name) for name in _FROM_SAVED}
        if login.saved_server_id is not None:
            saved = self._saved_connections.server(login.saved_server_id)
            for name in ("host", "port", "username"):
                if values[name] is not None and values[name] != getattr(saved, name):
                    raise SavedServerMismatch(name)
            for name, value in values.items():
                if value is None:
                    values[name] = getattr(saved, name)
            lost = [name for name in saved.unreadable if values.get(name) is None]
            if lost:
                raise StateError(
                    f"The saved {' and '.join(lost).replace('_', ' ')} cannot be decrypted; give it again",
                    code="SECRET_UNREADABLE",
                )
        if values["host"] is None or values["username"] is None:
            raise InvalidValue("host and username are required unless saved_server_id resolves them")
        target = Target.of(values.pop("host"), values.pop("port") or 22, values.pop("username"))
        return target, Credentials(**values, use_agent=login.use_agent)

    def _opener(self, login: Login) -> Opener:
        """How to log in for a request: its sender can be asked, now or by the answers it brings."""
        challenge_id = login.challenge_id
        if challenge_id is None:
            return self._logins.begin
        return lambda target, credentials: self._logins.resume(
            target, credentials, challenge_id, login.responses
        )

    def _live(self, target: Target) -> RemoteHost | None:
        with self._lock:
            held = self._held.get(target)
        return held.host if held is not None and held.host.connected else None


_FROM_SAVED = ("host", "port", "username", "password", "private_key", "private_key_path", "passphrase")
