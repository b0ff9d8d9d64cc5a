"""Looking around on a host, over SFTP."""

from __future__ import annotations

import builtins
from typing import Any

from runicorn_remote.errors import InvalidValue
from runicorn_remote.ssh.host import RemoteHost


class Files:
    """Stateless; may be called from any thread."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def list(self, host: RemoteHost, path: str) -> dict[str, Any]:
        """One directory in the shape of `/fs/list`: directories first, then by name.

        Raises `RemotePathNotFound`, `PathForbidden`, `NotADirectory`, `LinkLost`.
        """
        _check(path)
        with host.sftp(timeout=self._timeout) as sftp:
            absolute = sftp.absolute(path)
            entries, more = sftp.list(absolute)
        items: builtins.list[dict[str, Any]] = [
            {"name": entry.name, "is_dir": entry.is_dir, "size": entry.size, "mtime": entry.mtime}
            for entry in sorted(entries, key=lambda entry: (not entry.is_dir, entry.name))
        ]
        answer: dict[str, Any] = {"path": absolute, "items": items}
        if more:
            answer["truncated"] = True
        return answer

    def exists(self, host: RemoteHost, path: str) -> dict[str, Any]:
        """Whether `path` is there, in the shape of `/fs/exists`."""
        _check(path)
        with host.sftp(timeout=self._timeout) as sftp:
            absolute = _below(sftp.absolute("~"), path)
            is_dir = sftp.is_directory(absolute)
        return {"path": absolute, "exists": is_dir is not None, "is_dir": bool(is_dir)}


def _below(home: str, path: str) -> str:
    """The absolute form of a path that need not exist: `~` and relative ones begin at the home."""
    if path.startswith("/"):
        return path
    if path == "~":
        return home
    return home.rstrip("/") + "/" + path.removeprefix("~/")


def _check(path: str) -> None:
    if not path:
        raise InvalidValue("The path is empty; ~ is the home directory")
