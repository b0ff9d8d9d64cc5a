"""What a client of the embedded SSH host may do: who gets in, which channels it may open."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from runicorn_remote.demo.ssh_commands import RunningCommands


@dataclass(frozen=True)
class Account:
    """The one account of a host, and what it has open. Only the host's own thread uses it.

    `keys` are public keys in the wire format. `max_sessions` is per connection.
    """

    username: str
    password: str
    keys: Collection[bytes]
    home: Path
    max_sessions: int
    commands: RunningCommands
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    def abort_connections(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class AccountServer(asyncssh.SSHServer):
    """One connection to an account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._connection: asyncssh.SSHServerConnection
        self._open_sessions = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._account.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._account.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        right = hmac.compare_digest(password.encode("utf-8", "replace"), self._account.password.encode())
        return right and username == self._account.username

    def kbdint_auth_supported(self) -> bool:
        # As sshd without PAM. asyncssh would ask for the password this way as well.
        return False

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._account.username and key.public_data in self._account.keys

    def session_requested(self) -> asyncssh.SSHServerSession[bytes] | bool:
        if self._open_sessions >= self._account.max_sessions:
            return False
        self._open_sessions += 1
        return _Session(self._account, self._session_ended)

    def _session_ended(self) -> None:
        self._open_sessions -= 1

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if dest_host != "127.0.0.1":
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "forwarding reaches 127.0.0.1 only"
            )
        return True


class _Session(asyncssh.SSHServerProcess[bytes]):
    """One exec or SFTP channel, which tells when it has ended."""

    def __init__(self, account: Account, ended: Callable[[], None]) -> None:
        super().__init__(
            account.commands.start,
            lambda channel: _HomeSftp(channel, account.home),
            sftp_version=3,
            allow_scp=False,
        )
        self._ended = ended

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._ended()


class _HomeSftp(asyncssh.SFTPServer):
    """The real file system; relative paths start in the home."""

    def __init__(self, channel: Any, home: Path) -> None:
        super().__init__(channel)
        self._home = os.fsencode(home)

    def map_path(self, path: bytes) -> bytes:
        return os.path.join(self._home, path)
