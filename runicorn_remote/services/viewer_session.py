"""One viewer's state, and the rules by which it changes.

connecting ──► running ◄──► degraded
    │             │  │          │
    ▼             │  └──► disconnected   (the link is lost)
 (removed)        ├──► error             (the process crashed)
                  ├──► stopped           (it ended itself when idle)
                  └──► stopping ──► (removed)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.tunnel import Tunnel

CONNECTING = "connecting"
RUNNING = "running"
DEGRADED = "degraded"
DISCONNECTED = "disconnected"
STOPPING = "stopping"
STOPPED = "stopped"
ERROR = "error"

# What a tunnel serves, and what the heartbeat looks after.
WATCHED = (RUNNING, DEGRADED)
ENDED = (STOPPED, ERROR)


@dataclass(frozen=True)
class RemoteProcess:
    """A viewer on its host. The start time tells it from whatever gets its pid later."""

    pid: int
    start_time: str
    port: int
    directory: str


class ViewerSession:
    """Thread-safe. The lock guards the fields and is never held while anything is waited for."""

    def __init__(
        self,
        session_id: str,
        target: Target,
        tunnel: Tunnel,
        *,
        remote_root: str,
        environment: str | None,
        remote_port: int | None,
        clock: Clock,
    ) -> None:
        self.id = session_id
        self.target = target
        self.tunnel = tunnel
        self.cancelled = threading.Event()
        # Set when nothing of the session is left: whoever waits for a stop or a cancel wakes.
        self.gone = threading.Event()
        self.host: RemoteHost | None = None
        # Whether something of the viewer may be on the host: from the launch until it is known to be gone.
        self.remains = False
        self._clock = clock
        self._lock = threading.Lock()
        self._remote_root = remote_root
        self._environment = environment
        self._wanted_port = remote_port
        self._runicorn_version: str | None = None
        self._process: RemoteProcess | None = None
        self._status = CONNECTING
        self._phase = "connecting"
        self._error: str | None = None
        self._error_code: str | None = None
        self._started_at = clock.time_ms()
        self._started = clock.monotonic()
        self._ended: float | None = None
        self._last_healthy_at: int | None = None
        self._failures = 0

    @property
    def status(self) -> str:
        with self._lock:
            return self._status

    @property
    def process(self) -> RemoteProcess | None:
        with self._lock:
            return self._process

    @property
    def ended_for(self) -> float:
        """Seconds since the viewer ended by itself; 0 while it has not."""
        with self._lock:
            return self._clock.monotonic() - self._ended if self._ended is not None else 0.0

    # --- the start

    def set_phase(self, phase: str) -> None:
        with self._lock:
            self._phase = phase

    def prepared(self, *, remote_root: str, environment: str, runicorn_version: str | None) -> None:
        """What the host made of the request: absolute root, the environment's name, its runicorn."""
        with self._lock:
            self._remote_root = remote_root
            self._environment = environment
            self._runicorn_version = runicorn_version
            self._phase = "launching"

    def launched(self, process: RemoteProcess) -> None:
        with self._lock:
            self._process = process
            self._phase = "waiting"

    def ready(self) -> bool:
        """The viewer has answered through the tunnel. False if the session was cancelled meanwhile."""
        with self._lock:
            if self._status != CONNECTING or self.cancelled.is_set():
                return False
            self._status = RUNNING
            self._phase = "ready"
            self._last_healthy_at = self._clock.time_ms()
            return True

    # --- the heartbeat's findings; each is ignored once the session is being stopped

    def healthy(self) -> None:
        with self._lock:
            if self._status in WATCHED:
                self._status = RUNNING
                self._error = self._error_code = None
                self._failures = 0
                self._last_healthy_at = self._clock.time_ms()

    def deaf(self, needed: int) -> None:
        """The link and the process are there and no answer comes; `needed` times in a row is degraded."""
        with self._lock:
            self._failures += 1
            if self._status in WATCHED and self._failures >= needed:
                self._status = DEGRADED
                self._error = "The viewer does not answer; its process and the SSH connection are alive"
                self._error_code = "VIEWER_NOT_ANSWERING"

    def end(self, status: str, error: str | None, code: str | None) -> bool:
        """The viewer is over (`STOPPED`, `ERROR`) or out of reach (`DISCONNECTED`). False if too late."""
        with self._lock:
            if self._status not in WATCHED:
                return False
            self._status = status
            self._error, self._error_code = error, code
            if status in ENDED:
                self._ended = self._clock.monotonic()
            return True

    def begin_stop(self) -> bool:
        """Claim the right to end the session; exactly one caller gets it. A start is cancelled instead."""
        with self._lock:
            if self._status in (CONNECTING, STOPPING):
                if self._status == CONNECTING:
                    self.cancelled.set()
                return False
            self._status = STOPPING
            return True

    def snapshot(self) -> dict[str, Any]:
        """The session as the API shows it. Touches no network and waits for nobody."""
        counters = self.tunnel.counters()
        with self._lock:
            process = self._process
            return {
                "sessionId": self.id,
                "host": self.target.host,
                "sshPort": self.target.port,
                "username": self.target.username,
                "localPort": self.tunnel.local_port,
                "remotePort": process.port if process else self._wanted_port,
                "remoteRoot": self._remote_root,
                "remotePid": process.pid if process else None,
                "status": self._status,
                "startedAt": self._started_at,
                "uptimeSeconds": round(self._clock.monotonic() - self._started, 3),
                "isActive": self._status in WATCHED,
                "url": f"http://localhost:{self.tunnel.local_port}",
                "condaEnv": self._environment,
                "runicornVersion": self._runicorn_version,
                "error": self._error,
                "errorCode": self._error_code,
                "phase": self._phase,
                "tunnel": {
                    "bytesIn": counters.bytes_in,
                    "bytesOut": counters.bytes_out,
                    "openConnections": counters.open_connections,
                    "totalConnections": counters.total_connections,
                },
                "reconnects": 0,
                "restarts": 0,
                "lastHealthyAt": self._last_healthy_at,
            }
