"""One installation of runicorn on a host, as its followers see it."""

from __future__ import annotations

import re
import secrets
import threading
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import InstallCancelled, RemoteError
from runicorn_remote.onhost import shown
from runicorn_remote.redaction import redactor
from runicorn_remote.services.session_events import SessionEvents
from runicorn_remote.ssh.target import Target

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
_MAX_LINES = 1000
_LONGEST_LINE = 300
_USER_INFO = re.compile(r"(://)[^/\s@]+@")


class InstallJob:
    """Thread-safe; its lock is never held across the network.

    `phase` is one of `preparing` (looking at the environment), `installing`, `downloading` (packages, on
    the server's machine), `copying` (to the host) and `done`.
    """

    def __init__(self, target: Target, environment: str | None, version: str, clock: Clock) -> None:
        self.id = secrets.token_hex(8)
        self.target = target
        self.environment = environment
        self.version = version
        self.cancelled = threading.Event()
        self.over = threading.Event()
        self.error: RemoteError | None = None
        self.events = SessionEvents()
        self._clock = clock
        self._started = clock.monotonic()
        self._started_at = clock.time_ms()
        self._ended: float | None = None
        self._lock = threading.Lock()
        self._state = RUNNING
        self._phase = "preparing"
        self._lines: list[str] = []
        self._dropped = 0
        self._result: dict[str, Any] | None = None

    @property
    def state(self) -> str:
        with self._lock:
            return self._state

    @property
    def ended_for(self) -> float:
        """Seconds since its end; 0 while it runs."""
        with self._lock:
            return 0.0 if self._ended is None else self._clock.monotonic() - self._ended

    def tell(self, line: str) -> None:
        """Add a line. It comes from a host or a package index: it is shown without control characters."""
        line = redactor.redact(_USER_INFO.sub(r"\1***@", shown(line, _LONGEST_LINE))).rstrip()
        with self._lock:
            self._lines.append(line)
            if len(self._lines) > _MAX_LINES:
                del self._lines[0]
                self._dropped += 1
            number = self._dropped + len(self._lines) - 1
        self.events.tell(self.snapshot(number), "install")

    def set_phase(self, phase: str) -> None:
        with self._lock:
            self._phase = phase
            number = self._dropped + len(self._lines)
        self.events.tell(self.snapshot(number), "install")

    def succeed(self, result: dict[str, Any]) -> None:
        self._end(DONE, result)

    def fail(self, error: RemoteError) -> None:
        self.error = error
        self._end(CANCELLED if isinstance(error, InstallCancelled) else FAILED, None)

    def snapshot(self, after: int = 0) -> dict[str, Any]:
        """In the API's shape, with the lines from number `after` on."""
        with self._lock:
            end = self._clock.monotonic() if self._ended is None else self._ended
            error = self.error
            return {
                "installId": self.id,
                "connectionId": self.target.connection_id,
                "condaEnv": self._result["condaEnv"] if self._result else self.environment,
                "version": self.version,
                "state": self._state,
                "phase": self._phase,
                "startedAt": self._started_at,
                "elapsedSeconds": round(end - self._started, 3),
                "lines": self._lines[max(0, after - self._dropped) :],
                "nextLine": self._dropped + len(self._lines),
                "result": self._result,
                "error": str(error) if error else None,
                "errorCode": error.code if error else None,
                "hint": error.hint if error else None,
            }

    def _end(self, state: str, result: dict[str, Any] | None) -> None:
        with self._lock:
            self._state, self._result = state, result
            if state == DONE:
                self._phase = "done"
            self._ended = self._clock.monotonic()
            number = self._dropped + len(self._lines)
        self.events.end(self.snapshot(number))
        self.over.set()
