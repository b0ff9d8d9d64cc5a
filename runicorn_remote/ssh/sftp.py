"""Listing a directory and asking for a path, over one SFTP session a request.

paramiko's `SFTPClient` is not thread-safe and fails a whole listing for one file name that is not
UTF-8, so names are read as bytes here and links are asked for in one go rather than one round trip
each. Protocol: draft-ietf-secsh-filexfer-02 (version 3, what OpenSSH speaks).
"""

from __future__ import annotations

import builtins
import errno
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko
from paramiko.sftp import CMD_ATTRS, CMD_CLOSE, CMD_HANDLE, CMD_NAME, CMD_OPENDIR, CMD_READDIR, CMD_STAT
from paramiko.sftp_attr import SFTPAttributes

from runicorn_remote.errors import (
    InvalidValue,
    NotADirectory,
    PathForbidden,
    RemoteCommandFailed,
    RemoteError,
    RemotePathNotFound,
)

MAX_ENTRIES = 20_000
# What every SFTP server takes in one packet.
_COPY_CHUNK = 32 * 1024


@dataclass(frozen=True)
class Entry:
    """One name in a directory. `size` in bytes, `mtime` in seconds since the epoch."""

    name: str
    is_dir: bool
    size: int
    mtime: int


class SftpSession:
    """One SFTP session, used by one thread, until its deadline (monotonic seconds)."""

    def __init__(self, client: paramiko.SFTPClient, deadline: float) -> None:
        self._client: Any = client
        self._deadline = deadline

    def absolute(self, path: str) -> str:
        """The absolute form of `path`; `~` and `~/…` are the home, where every SFTP session starts."""
        if path == "~":
            path = "."
        elif path.startswith("~/"):
            path = "./" + path[2:].lstrip("/")
        try:
            return str(self._client.normalize(path))
        except UnicodeDecodeError as error:
            raise RemoteCommandFailed("The path has a name that is not UTF-8") from error
        except OSError as error:
            raise _translated(path, error) from error

    def is_directory(self, path: str) -> bool | None:
        """True, False, or None if there is no such path (or none we may know of)."""
        try:
            return stat.S_ISDIR(self._client.stat(path).st_mode or 0)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EACCES) or _is_unusable(error):
                return None
            raise _translated(path, error) from error

    def list(self, path: str) -> tuple[builtins.list[Entry], bool]:
        """The entries of a directory and whether there are more than `MAX_ENTRIES`. Links are followed."""
        try:
            kind, message = self._client._request(CMD_OPENDIR, path.encode())
        except OSError as error:
            # For a path that is no directory, sshd says "Failure" or "No such file".
            if error.errno in (None, errno.ENOENT) and self.is_directory(path) is False:
                raise NotADirectory(f"Not a directory: {path}") from error
            raise _translated(path, error) from error
        if kind != CMD_HANDLE:
            raise RemoteCommandFailed("The SFTP server answered out of order")
        handle = message.get_binary()
        found, more = self._read(handle)
        self._client._request(CMD_CLOSE, handle)
        links = [name for name, attributes in found if stat.S_ISLNK(attributes.st_mode or 0)]
        targets = self._stat_all(path.encode(), links)
        return [_entry(name, targets.get(name, attributes)) for name, attributes in found], more

    def put(self, source: Path, path: str) -> None:
        """Copy a local file to `path`, which must not exist. Raises what `list` raises.

        `RemoteCommandFailed` also if it did not arrive as a whole: of a full disk sshd says just "Failure".
        """
        try:
            with source.open("rb") as local, self._client.open(path, "wxb") as remote:
                remote.set_pipelined(True)
                while chunk := local.read(_COPY_CHUNK):
                    self._check_deadline()
                    remote.write(chunk)
            arrived = self._client.stat(path).st_size
        except OSError as error:
            raise _translated(path, error) from error
        if arrived != source.stat().st_size:
            raise RemoteCommandFailed(f"{path}: did not arrive as a whole")

    def _read(self, handle: bytes) -> tuple[builtins.list[tuple[bytes, SFTPAttributes]], bool]:
        found: builtins.list[tuple[bytes, SFTPAttributes]] = []
        while True:
            self._check_deadline()
            try:
                kind, message = self._client._request(CMD_READDIR, handle)
            except EOFError:  # the protocol's end of the directory
                return found, False
            if kind != CMD_NAME:
                raise RemoteCommandFailed("The SFTP server answered out of order")
            for _ in range(message.get_int()):
                name = message.get_binary()
                message.get_binary()  # the long form, as of ls -l
                attributes = SFTPAttributes._from_msg(message)  # type: ignore[attr-defined]
                if name not in (b".", b".."):
                    found.append((name, attributes))
            if len(found) >= MAX_ENTRIES:
                return found[:MAX_ENTRIES], True

    def _stat_all(self, directory: bytes, names: builtins.list[bytes]) -> dict[bytes, SFTPAttributes]:
        """What the links point to, all asked before the first answer is read. Broken ones are left out."""
        replies = _Replies()
        asked = {}
        for name in names:
            number = self._client._async_request(replies, CMD_STAT, directory.rstrip(b"/") + b"/" + name)
            asked[number] = name
        while len(replies.messages) < len(asked):
            self._check_deadline()
            self._client._read_response()
        return {
            asked[number]: SFTPAttributes._from_msg(message)  # type: ignore[attr-defined]
            for number, (kind, message) in replies.messages.items()
            if kind == CMD_ATTRS
        }

    def _check_deadline(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("the SFTP server is too slow")


class _Replies:
    """Where paramiko puts answers that nobody waits for by number."""

    def __init__(self) -> None:
        self.messages: dict[int, tuple[int, Any]] = {}

    def _async_response(self, kind: int, message: Any, number: int) -> None:
        self.messages[number] = (kind, message)


def _entry(name: bytes, attributes: SFTPAttributes) -> Entry:
    is_dir = stat.S_ISDIR(attributes.st_mode or 0)
    size = 0 if is_dir else attributes.st_size or 0
    return Entry(name.decode("utf-8", "replace"), is_dir, size, int(attributes.st_mtime or 0))


def _translated(path: str, error: OSError) -> RemoteError:
    if error.errno == errno.ENOENT:
        return RemotePathNotFound(f"No such file or directory: {path}")
    if error.errno == errno.EACCES:
        return PathForbidden(f"Permission denied: {path}")
    if isinstance(error, TimeoutError):
        raise error
    if _is_unusable(error):
        return InvalidValue(f"The path cannot be used: {path}", code="INVALID_PATH")
    return RemoteCommandFailed(f"{path}: {error}")


def _is_unusable(error: OSError) -> bool:
    """Whether this is how OpenSSH refuses a name that is too long; paramiko keeps just the words."""
    return error.errno is None and str(error) == "Bad message"
