"""One session's fields behind its lock, and what hangs on it: how it is read, shown and followed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.services import session_picture
from runicorn_remote.services.session_events import SessionEvents
from runicorn_remote.services.session_fields import CONNECTING, ENDED, RemoteProcess, SessionFields
from runicorn_remote.services.session_json import SessionJson
from runicorn_remote.services.session_store import SessionRecord
from runicorn_remote.services.viewer_log import LogTail
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials
from runicorn_remote.ssh.tunnel import Tunnel


class SessionState:
    """Thread-safe. The lock guards the fields and is never held while anything is waited for.

    Here the fields are only read; by which rules they change is `ViewerSession`'s.
    """

    def __init__(self, fields: SessionFields, tunnel: Tunnel | None, clock: Clock) -> None:
        self.id = fields.id
        self.target = fields.target
        self.local_port = fields.local_port
        # None only for a session found on disk whose local port is not bound (yet).
        self.tunnel = tunnel
        self.cancelled = threading.Event()
        # Set when nothing of the session is left: whoever waits for a stop or a cancel wakes.
        self.gone = threading.Event()
        # Set while nobody starts the viewer again. Whoever ends it waits for this, else it might end
        # the old process and leave the new one.
        self.restart_over = threading.Event()
        self.restart_over.set()
        self.host: RemoteHost | None = None
        # Kept in memory for as long as the session lives, to log in again with.
        self.credentials: Credentials | None = None
        self.saved_server_id: str | None = None
        # Whether something of the viewer may be on the host: from the launch until it is known to be gone.
        self.remains = False
        # The end of its log as it was last seen.
        self.log: LogTail | None = None
        # The heartbeat's own: when it last asked for the process of a viewer that nobody uses.
        self.asked_when_idle = float("-inf")
        self.events = SessionEvents()
        self._clock = clock
        self._json = SessionJson()
        self._lock = threading.Lock()
        self._fields = fields
        # By the monotonic clock.
        self._ended: float | None = None
        # What those who follow the session know.
        self._told: tuple[str | None, ...] = ()
        with self._changing():
            pass

    # --- reading

    @property
    def status(self) -> str:
        with self._lock:
            return self._fields.status

    @property
    def is_starting(self) -> bool:
        return self.status == CONNECTING

    @property
    def error_code(self) -> str | None:
        with self._lock:
            return self._fields.error_code

    @property
    def phases(self) -> list[dict[str, Any]]:
        """What the steps of the latest start took, as `StartPhases` lists them."""
        with self._lock:
            return self._fields.phases.listed

    @property
    def process(self) -> RemoteProcess | None:
        with self._lock:
            return self._fields.process

    @property
    def launch_request(self) -> dict[str, Any]:
        """What to start the same viewer again with: `remote_root`, `environment`, `port`, `launch_args`."""
        with self._lock:
            return {
                "remote_root": self._fields.remote_root,
                "environment": self._fields.environment,
                "port": self._fields.remote_port,
                "launch_args": self._fields.launch_args,
            }

    @property
    def ended_for(self) -> float:
        """Seconds since the viewer ended by itself; 0 while it has not."""
        with self._lock:
            return self._clock.monotonic() - self._ended if self._ended is not None else 0.0

    # --- showing

    def snapshot(self) -> dict[str, Any]:
        """The session as the API shows it. Touches no network and waits for nobody."""
        return {**self._settled(), **self._moving()}

    def snapshot_json(self) -> str:
        """The same as JSON text, for little."""
        return self._json.text(self._settled(), self._moving())

    def record(self) -> SessionRecord | None:
        """What is kept on disk; None if there is nothing to find again. Never a secret."""
        with self._lock:
            return session_picture.record(self._fields, self.credentials, self.saved_server_id)

    def over(self, reason: str) -> None:
        """Nothing will happen to the session any more: it `ended` by itself, or was `removed`."""
        self.events.end({"sessionId": self.id, "at": self._clock.time_ms(), "reason": reason})

    def _settled(self) -> dict[str, Any]:
        with self._lock:
            return session_picture.settled(self._fields)

    def _moving(self) -> dict[str, Any]:
        return session_picture.moving(self._fields.started_at, self.tunnel, self._clock.time_ms())

    # --- changing

    @contextmanager
    def _changing(self) -> Iterator[SessionFields]:
        """The lock, for a change; whoever follows the session is told if it is one."""
        with self._lock:
            fields = self._fields
            yield fields
            now = (fields.status, fields.phases.current, fields.error, fields.error_code)
            if now != self._told:
                self._told = now
                self.events.tell(session_picture.event(fields, self._clock.time_ms()))
                if fields.status in ENDED:
                    self.over("ended")
