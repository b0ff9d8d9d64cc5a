"""Sessions on disk, so that a server finds its viewers again after a crash, an upgrade or a reboot.

`sessions.json`: `{"server": id, "sessions": [RECORD]}`. A record names a viewer's process and how to
get there; never a secret. `server` is a random id made once: it marks the viewers of this state
directory on their hosts, where those of another laptop may run beside them.

Only one server may own a state directory's sessions: `sessions.json.owner` is locked for the life
of the process (the operating system lets go of it, whatever ends the process). Another server on
the same directory works, and leaves the file alone.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import make_private_directory, read_private, write_private

logger = logging.getLogger(__name__)

_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class SessionRecord:
    """What has to be known to find a viewer again. `needs_secret`: a password, passphrase or key text
    was given that is not stored anywhere."""

    session_id: str
    host: str
    port: int
    username: str
    private_key_path: str | None
    use_agent: bool
    saved_server_id: str | None
    needs_secret: bool
    local_port: int
    remote_root: str
    environment: str | None
    runicorn_version: str | None
    pid: int
    start_time: str
    remote_port: int
    directory: str
    started_at: int
    reconnects: int
    restarts: int
    launch_args: dict[str, str] | None = None
    node: str | None = None


class SessionStore:
    """Thread-safe. `claim` once, before anything else."""

    def __init__(self, path: Path) -> None:
        """Touches no file."""
        self._path = path
        self._lock = threading.Lock()
        self._owner: FileLock | None = None
        self._written = True
        self._server_id = secrets.token_hex(8)

    @property
    def server_id(self) -> str:
        """The mark of this server's viewers on their hosts."""
        return self._server_id

    @property
    def claimed(self) -> bool:
        """Whether the file is ours. Takes no lock."""
        return self._owner is not None

    def claim(self) -> list[SessionRecord]:
        """Become the owner of the file and read it. Another owner, or a file that cannot be used: no records.

        A file that cannot be read is not overwritten; sessions are then not remembered.
        """
        try:
            make_private_directory(self._path.parent)
            # Not the thread's own: whoever closes the server lets go of it.
            lock = FileLock(f"{self._path}.owner", mode=0o600, thread_local=False)
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning(
                "Another server uses %s: this one does not remember its sessions", self._path.parent
            )
            return []
        except (StateError, OSError, NotImplementedError) as error:  # the last: a file system without locks
            logger.warning("Sessions are not remembered: %s", error)
            return []
        try:
            server_id, records = self._read()
        except StateError as error:
            lock.release()
            logger.warning("Sessions are not remembered: %s", error)
            return []
        self._owner = lock
        if server_id is None:
            self.save([])
        else:
            self._server_id = server_id
        return records

    def save(self, records: list[SessionRecord]) -> bool:
        """Replace the file. False if it could not be written (the old one stays) or is not ours."""
        with self._lock:
            if self._owner is None:
                return False
            content = {"server": self._server_id, "sessions": [asdict(record) for record in records]}
            try:
                write_private(self._path, json.dumps(content, indent=1).encode())
            except StateError as error:
                if self._written:  # it is tried again and again; said once
                    logger.warning("The sessions could not be written to disk: %s", error)
                self._written = False
                return False
            self._written = True
            return True

    def close(self) -> None:
        """Let another server own the file."""
        with self._lock:
            if self._owner is not None:
                self._owner.release()
                self._owner = None

    def _read(self) -> tuple[str | None, list[SessionRecord]]:
        data = read_private(self._path, _MAX_BYTES)
        if data is None:
            return None, []
        try:
            content = json.loads(data)
            server_id, entries = content["server"], content["sessions"]
            records = [record for entry in entries if (record := _record(entry)) is not None]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(
                f"{self._path} cannot be read: it is not what this server writes. It was not changed.",
                hint="Move it away; viewers it lists end themselves after half an hour without requests.",
            ) from error
        if not isinstance(server_id, str) or not server_id.isalnum():
            raise StateError(f"{self._path} has no server id. It was not changed.")
        return server_id, records


def _record(entry: Any) -> SessionRecord | None:
    """One record, if it has all fields with values of the right kind; fields we do not know are dropped."""
    if not isinstance(entry, dict):
        return None
    values: dict[str, Any] = {}
    for item in fields(SessionRecord):
        value = entry.get(item.name)
        kind = _KINDS[str(item.type).removesuffix(" | None")]
        optional = str(item.type).endswith("| None")
        if not (optional and value is None) and not (
            isinstance(value, kind) and (kind is bool) == isinstance(value, bool)
        ):
            return None
        values[item.name] = value
    record = SessionRecord(**values)
    ports = (record.port, record.local_port, record.remote_port)
    possible = record.pid > 1 and all(0 < port < 65536 for port in ports)
    possible = possible and all(isinstance(value, str) for value in (record.launch_args or {}).values())
    return record if possible and _SESSION_ID.fullmatch(record.session_id) else None


_SESSION_ID = re.compile(r"[0-9a-f]{8,32}")
_KINDS: dict[str, type] = {"str": str, "int": int, "bool": bool, "dict[str, str]": dict}
