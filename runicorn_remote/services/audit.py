"""The audit log: who did what, to which host or viewer, with which result. JSON lines, appended.

One line:

    {"time": 1770000000123, "at": "2026-02-02T02:40:00.123Z", "request_id": "3f…", "action": "connect",
     "result": "ok", "uid": 1000, "user": "me", "address": "127.0.0.1", "ms": 412.7,
     "target": {"connection_id": "me@gpu1:22"}}

`time` is in milliseconds since the epoch, `ms` how long it took; `result` is `ok` or the error's code.
What happens by itself has no `uid`, `user`, `address` and `ms`; a request without known owner has `uid`
null. Secrets are cut out; JSON escapes control characters and what is not ASCII, so no value can forge
a line.

A request never fails for its line: what cannot be written (a full disk) is said in the log, and counted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import StateError
from runicorn_remote.logs import iso_time, request_id
from runicorn_remote.private_files import make_private_directory
from runicorn_remote.redaction import redactor
from runicorn_remote.settings import SettingsError

logger = logging.getLogger(__name__)

STDERR = "-"
_MODE = 0o600
# Not every platform has every flag. O_NONBLOCK: opening a FIFO must not wait for its other end.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Read as well, to see whether the last line is whole.
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0) | _SAFELY
_LONGEST_VALUE = 256
# Whoever is refused can ask again at once; that must not fill the disk.
_REFUSALS_A_MINUTE = 60


@dataclass(frozen=True)
class Caller:
    """Who sent a request: user id (None: unknown) and address (None: a unix socket)."""

    uid: int | None
    address: str | None


class Audit:
    """Thread-safe. The lock is held while a line is written, which is one system call."""

    def __init__(self, path: str | None, clock: Clock) -> None:
        """`path` None: off; `-`: standard error. Touches no file."""
        self.enabled = path is not None
        # Lines that could not be written, since the start.
        self.lost = 0
        self._to_stderr = path == STDERR
        self._path = Path(path or "").expanduser()
        self._clock = clock
        self._lock = threading.Lock()
        self._file: int | None = None
        self._torn = False
        self._failing = False
        self._users: dict[int, str | None] = {}
        self._minute = 0
        self._refusals = 0

    def open(self) -> None:
        """Open the file now, so that an unusable one is an error at the start: `SettingsError`."""
        if not self.enabled or self._to_stderr:
            return
        with self._lock:
            try:
                self._reopen()
            except OSError as error:
                raise SettingsError(f"audit_log: {self._path} cannot be written: {_said(error)}") from error
            except StateError as error:
                raise SettingsError(f"audit_log: {error}") from error

    def close(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self.enabled = False
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def write(
        self,
        action: str,
        result: str = "ok",
        *,
        target: Mapping[str, Any] | None = None,
        caller: Caller | None = None,
        ms: float | None = None,
    ) -> None:
        """Append a line. Values of `target` are texts and numbers; None and empty ones are left out."""
        if not self.enabled:
            return
        now = self._clock.time()
        entry: dict[str, Any] = {"time": int(now * 1000), "at": iso_time(now)}
        if (number := request_id.get()) is not None:
            entry["request_id"] = number
        entry.update(action=action, result=result)
        if caller is not None:
            entry.update(uid=caller.uid, user=self._user_name(caller.uid), address=caller.address)
        if ms is not None:
            entry["ms"] = round(ms, 1)
        entry["target"] = {name: _cut(value) for name, value in (target or {}).items() if value}
        self._append(json.dumps(entry).encode() + b"\n")

    def has_room_for_refusal(self) -> bool:
        """Whether a refused request gets a line; after so many a minute they are only counted."""
        if not self.enabled:
            return False
        minute = int(self._clock.monotonic() // 60)
        with self._lock:
            left_out = 0
            if minute != self._minute:
                left_out = max(0, self._refusals - _REFUSALS_A_MINUTE)
                self._minute, self._refusals = minute, 0
            self._refusals += 1
            has_room = self._refusals <= _REFUSALS_A_MINUTE
        if left_out:
            self.write("refused", "LEFT_OUT", target={"requests": left_out})
        return has_room

    def _append(self, line: bytes) -> None:
        error: Exception | None = None
        with self._lock:
            try:
                descriptor = 2 if self._to_stderr else self._current()
                # After half a line the next one begins on a line of its own.
                data = b"\n" + line if self._torn else line
                written = os.write(descriptor, data)
                if written:
                    self._torn = written < len(data)
                if written < len(data):
                    raise OSError("only a part of a line was written")
            except (OSError, StateError) as caught:
                error = caught
            if error is not None:
                self.lost += 1
            changed, self._failing = self._failing != (error is not None), error is not None
        if not changed:  # a full disk is said once, not with every line
            return
        if error is not None:
            logger.error("The audit log cannot be written; requests go on without: %s", _said(error))
        else:
            logger.warning("The audit log can be written again; %d lines are lost", self.lost)

    def _current(self) -> int:
        """The file that is at the path now: whoever rotates logs has moved ours away."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                there, ours = os.lstat(self._path), os.fstat(self._file)
                if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                    return self._file
        return self._reopen()

    def _reopen(self) -> int:
        """Raises OSError and `StateError`."""
        if not self._path.parent.is_dir():
            make_private_directory(self._path.parent)
        descriptor = os.open(self._path, _APPEND, _MODE)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
            os.close(descriptor)
            raise StateError(f"{self._path} is not a regular file of this user. Move it away.")
        if self._file is not None:
            os.close(self._file)
        self._file, self._torn = descriptor, _ends_within_a_line(descriptor, status.st_size)
        return descriptor

    def _user_name(self, uid: int | None) -> str | None:
        """Looked up once: a directory service may be asked for it."""
        if uid is None:
            return None
        if uid not in self._users:
            self._users[uid] = _look_up_user(uid)
        return self._users[uid]


def _ends_within_a_line(descriptor: int, size: int) -> bool:
    """After a disk that was full, or a crash."""
    if size == 0:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


def _look_up_user(uid: int) -> str | None:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return None


def _cut(value: Any) -> Any:
    """What a caller or a host chose: bounded, and without secrets."""
    if isinstance(value, (bool, int, float)):
        return value
    return redactor.redact(str(value))[:_LONGEST_VALUE]


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
