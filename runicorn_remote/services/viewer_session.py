"""One viewer's state, and the rules by which it changes.

connecting ──► running ◄──► degraded         the viewer answers, or is alive and deaf
    │             │    ▲        │
    ▼             ▼    │        ▼
 (removed,       reconnecting ◄─┘            the link is lost, or the viewer crashed and is started again
 or error)        │       │  ▲
                  │       ▼  │
                  │    disconnected          a person is needed: `errorCode` says for what
                  ▼
               error, stopped                it crashed too often, or ended itself when idle

any ──► stopping ──► (removed)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import RemoteError, ViewerStartFailed
from runicorn_remote.services.session_events import SessionEvents
from runicorn_remote.services.session_json import SessionJson
from runicorn_remote.services.session_store import SessionRecord
from runicorn_remote.services.start_phases import StartPhases
from runicorn_remote.services.viewer_log import LogTail
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel, TunnelCounters

CONNECTING = "connecting"
RUNNING = "running"
DEGRADED = "degraded"
RECONNECTING = "reconnecting"
DISCONNECTED = "disconnected"
STOPPING = "stopping"
STOPPED = "stopped"
ERROR = "error"

STATUSES = (CONNECTING, RUNNING, DEGRADED, RECONNECTING, DISCONNECTED, STOPPING, STOPPED, ERROR)
# What a tunnel serves, and what the heartbeat looks after.
WATCHED = (RUNNING, DEGRADED)
ENDED = (STOPPED, ERROR)
# What is worth finding again after a restart of this server.
REMEMBERED = (RUNNING, DEGRADED, RECONNECTING, DISCONNECTED)

_NO_TRAFFIC = TunnelCounters(0, 0, 0, 0)


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
        tunnel: Tunnel | None,
        *,
        local_port: int,
        remote_root: str,
        environment: str | None,
        remote_port: int | None,
        clock: Clock,
    ) -> None:
        self.id = session_id
        self.target = target
        # None only for a session found on disk whose local port is not bound (yet).
        self.tunnel = tunnel
        self.local_port = local_port
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
        self._clock = clock
        self._json = SessionJson()
        self._lock = threading.Lock()
        self._remote_root = remote_root
        self._environment = environment
        self._wanted_port = remote_port
        self._runicorn_version: str | None = None
        self._process: RemoteProcess | None = None
        self._listening = False
        self._status = CONNECTING
        self._phases = StartPhases(clock)
        self._error: str | None = None
        self._error_code: str | None = None
        self._error_detail: dict[str, Any] | None = None
        self._started_at = clock.time_ms()
        self._ended: float | None = None
        self._last_healthy_at: int | None = None
        self._failures = 0
        self._reconnects = 0
        self._restarts = 0
        self._restarting = False
        # A restart was cut short by the link: the same crash is not counted again.
        self._restart_due = False
        self._crashes: deque[float] = deque(maxlen=100)
        # What those who follow the session know.
        self._told: tuple[str | None, ...] = ()
        self.events = SessionEvents()
        with self._changing():
            pass

    @classmethod
    def from_record(cls, record: SessionRecord, clock: Clock) -> ViewerSession:
        """A session that an earlier server left: `reconnecting`, without tunnel and connection."""
        session = cls(
            record.session_id,
            Target(record.host, record.port, record.username),
            None,
            local_port=record.local_port,
            remote_root=record.remote_root,
            environment=record.environment,
            remote_port=record.remote_port,
            clock=clock,
        )
        session.saved_server_id = record.saved_server_id
        session.remains = True
        session._runicorn_version = record.runicorn_version
        session._process = RemoteProcess(record.pid, record.start_time, record.remote_port, record.directory)
        session._status, session._phases = RECONNECTING, StartPhases(clock, StartPhases.READY)
        session._error, session._error_code = "The server was restarted", "SERVER_RESTARTED"
        session._started_at = record.started_at
        session._reconnects, session._restarts = record.reconnects, record.restarts
        session.events = SessionEvents()
        with session._changing():
            pass
        return session

    def record(self) -> SessionRecord | None:
        """What is kept on disk; None if there is nothing to find again. Never a secret."""
        credentials = self.credentials
        with self._lock:
            process = self._process
            started = self._status in REMEMBERED or (self._status == CONNECTING and self._listening)
            if process is None or not started:
                return None
            return SessionRecord(
                session_id=self.id,
                host=self.target.host,
                port=self.target.port,
                username=self.target.username,
                private_key_path=credentials.private_key_path if credentials else None,
                use_agent=credentials.use_agent if credentials else True,
                saved_server_id=self.saved_server_id,
                needs_secret=credentials.has_secret if credentials else True,
                local_port=self.local_port,
                remote_root=self._remote_root,
                environment=self._environment,
                runicorn_version=self._runicorn_version,
                pid=process.pid,
                start_time=process.start_time,
                remote_port=process.port,
                directory=process.directory,
                started_at=self._started_at,
                reconnects=self._reconnects,
                restarts=self._restarts,
            )

    @property
    def status(self) -> str:
        with self._lock:
            return self._status

    @property
    def error_code(self) -> str | None:
        with self._lock:
            return self._error_code

    @property
    def phases(self) -> list[dict[str, Any]]:
        """What the steps of the latest start took, as `StartPhases` lists them."""
        with self._lock:
            return self._phases.listed

    @property
    def process(self) -> RemoteProcess | None:
        with self._lock:
            return self._process

    @property
    def is_starting(self) -> bool:
        return self.status == CONNECTING

    @property
    def restarting(self) -> bool:
        """Whether the viewer is just being started again after a crash."""
        with self._lock:
            return self._restarting

    @property
    def launch_request(self) -> dict[str, Any]:
        """What to start the same viewer again with: `remote_root`, `environment`, `port`."""
        with self._lock:
            return {
                "remote_root": self._remote_root,
                "environment": self._environment,
                "port": self._process.port if self._process else self._wanted_port,
            }

    @property
    def ended_for(self) -> float:
        """Seconds since the viewer ended by itself; 0 while it has not."""
        with self._lock:
            return self._clock.monotonic() - self._ended if self._ended is not None else 0.0

    # --- the start, and a start after a crash

    def set_phase(self, phase: str) -> None:
        with self._changing():
            self._phases.begin(phase)

    def prepared(self, *, remote_root: str, environment: str, runicorn_version: str | None) -> None:
        """What the host made of the request: absolute root, the environment's name, its runicorn."""
        with self._changing():
            self._remote_root = remote_root
            self._environment = environment
            self._runicorn_version = runicorn_version
            self._phases.begin("launching")

    def launched(self, process: RemoteProcess) -> None:
        with self._changing():
            self._process = process
            self._phases.begin("waiting")

    def listening(self) -> None:
        """The viewer goes on without us: a crash of this server must not make it an orphan any more."""
        with self._lock:
            self._listening = True

    def ready(self) -> bool:
        """The viewer has answered through the tunnel. False if the session was stopped meanwhile."""
        with self._changing():
            if self._status not in (CONNECTING, RECONNECTING) or self.cancelled.is_set():
                return False
            if self._restarting:
                self._restarts += 1
            self._restarting = False
            self._phases.begin(StartPhases.READY)
            self._be_running()
            return True

    def start_failed(self, error: RemoteError) -> bool:
        """A start that nobody waits for has failed, and nothing of it is left; the session says why.

        False if it was stopped meanwhile.
        """
        with self._changing():
            if self._status != CONNECTING or self.cancelled.is_set():
                return False
            self._status, self._error, self._error_code = ERROR, str(error), error.code
            self._error_detail = error.detail if isinstance(error.detail, dict) else None
            self._phases.end()
            self._ended = self._clock.monotonic()
        self.credentials = None
        if isinstance(error, ViewerStartFailed):
            self.keep_log(error.log_tail)
        return True

    def keep_log(self, lines: tuple[str, ...]) -> None:
        """What the host told of the log when the viewer was gone."""
        if lines:
            self.log = LogTail(lines, self._clock.time_ms())

    # --- what the heartbeat and the recovery find; each is ignored once the session is being stopped

    def healthy(self) -> None:
        with self._changing():
            if self._status in WATCHED:
                self._be_running()

    def deaf(self, needed: int) -> None:
        """The link and the process are there and no answer comes; `needed` times in a row is degraded."""
        with self._changing():
            self._failures += 1
            if self._status in WATCHED and self._failures >= needed:
                self._status = DEGRADED
                self._error = "The viewer does not answer; its process and the SSH connection are alive"
                self._error_code = "VIEWER_NOT_ANSWERING"

    def lost(self, error: str, code: str) -> bool:
        """The link is gone. False if the session is not one that has a link to lose."""
        return self._change(WATCHED, RECONNECTING, error, code)

    def still_lost(self, error: str, code: str) -> None:
        """Another attempt has failed."""
        self._change((RECONNECTING,), RECONNECTING, error, code)

    def give_up(self, error: str, code: str, detail: dict[str, Any] | None = None) -> bool:
        """No attempt will help before a person does something; `detail`: what to decide on."""
        return self._change((RECONNECTING,), DISCONNECTED, error, code, detail)

    def resumed(self, credentials: Credentials | None = None) -> bool:
        """A person has done something: try again, with these credentials if there are any."""
        if self.restarting:
            return False
        if not self._change((DISCONNECTED, RECONNECTING), RECONNECTING, "Reconnecting", "RESUMED"):
            return False
        if credentials is not None:
            self.credentials = credentials
        return True

    def reconnected(self) -> bool:
        """The link is back, and the process is alive. The heartbeat will say how it is."""
        with self._changing():
            if self._status != RECONNECTING:
                return False
            self._reconnects += 1
            self._be_running()
            return True

    def crashed(
        self, error: str, *, limit: int, within: float, process: RemoteProcess | None = None
    ) -> bool | None:
        """The process ended unexpectedly. True: it may be started again, and is now `reconnecting`.

        False: it crashed too often. None: that is not to be dealt with, because the session is being
        stopped, the viewer is being started again already, or `process` is not its process any more.
        """
        with self._changing():
            if self._status not in (*WATCHED, RECONNECTING) or self._restarting:
                return None
            if process is not None and process != self._process:
                return None
            now = self._clock.monotonic()
            if not self._restart_due:
                self._crashes.append(now)
            self._restart_due = False
            if sum(now - crash < within for crash in self._crashes) > limit:
                return False
            self._status = RECONNECTING
            self._error, self._error_code = error, "VIEWER_RESTARTING"
            self._restarting = True
            self.restart_over.clear()
            return True

    def restart_failed(self, *, again: bool = True) -> None:
        """The viewer could not be started again; `again`: for a reason that is not its own, the link."""
        with self._lock:
            self._restarting = False
            self._restart_due = again

    def end(self, status: str, error: str | None, code: str | None) -> bool:
        """The viewer is over: `STOPPED` or `ERROR`. False if too late."""
        if not self._change((*WATCHED, RECONNECTING), status, error, code):
            return False
        with self._lock:
            self._ended = self._clock.monotonic()
            self._restarting = False
        return True

    def begin_stop(self) -> bool:
        """Claim the right to end the session; exactly one caller gets it. A start is cancelled instead."""
        with self._changing():
            self.cancelled.set()
            if self._status in (CONNECTING, STOPPING):
                return False
            self._status = STOPPING
            return True

    def _change(
        self,
        allowed: tuple[str, ...],
        status: str,
        error: str | None,
        code: str | None,
        detail: dict[str, Any] | None = None,
    ) -> bool:
        with self._changing():
            if self._status not in allowed:
                return False
            self._status, self._error, self._error_code = status, error, code
            self._error_detail = detail
            return True

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The lock, for a change; whoever follows the session is told if it is one."""
        with self._lock:
            yield
            now = (self._status, self._phases.current, self._error, self._error_code)
            if now != self._told:
                self._told = now
                self._tell()

    def _tell(self) -> None:
        self.events.tell(
            {
                "sessionId": self.id,
                "at": self._clock.time_ms(),
                "status": self._status,
                "phase": self._phases.current,
                "phases": self._phases.listed,
                "url": f"http://localhost:{self.local_port}",
                "error": self._error,
                "errorCode": self._error_code,
                "errorDetail": self._error_detail,
            }
        )
        if self._status in ENDED:
            self.over("ended")

    def over(self, reason: str) -> None:
        """Nothing will happen to the session any more: it `ended` by itself, or was `removed`."""
        self.events.end({"sessionId": self.id, "at": self._clock.time_ms(), "reason": reason})

    def _be_running(self) -> None:
        self._status = RUNNING
        self._error = self._error_code = self._error_detail = None
        self._failures = 0
        self._last_healthy_at = self._clock.time_ms()

    def snapshot(self) -> dict[str, Any]:
        """The session as the API shows it. Touches no network and waits for nobody."""
        return {**self._settled(), **self._moving()}

    def snapshot_json(self) -> str:
        """The same as JSON text, for little."""
        return self._json.text(self._settled(), self._moving())

    def _settled(self) -> dict[str, Any]:
        """What stays as it is unless something happens to the session."""
        with self._lock:
            process = self._process
            return {
                "sessionId": self.id,
                "host": self.target.host,
                "sshPort": self.target.port,
                "username": self.target.username,
                "localPort": self.local_port,
                "remotePort": process.port if process else self._wanted_port,
                "remoteRoot": self._remote_root,
                "remotePid": process.pid if process else None,
                "status": self._status,
                "startedAt": self._started_at,
                "isActive": self._status in WATCHED,
                "url": f"http://localhost:{self.local_port}",
                "condaEnv": self._environment,
                "runicornVersion": self._runicorn_version,
                "error": self._error,
                "errorCode": self._error_code,
                "errorDetail": self._error_detail,
                "phase": self._phases.current,
                "phases": self._phases.listed,
                "reconnects": self._reconnects,
                "restarts": self._restarts,
                "lastHealthyAt": self._last_healthy_at,
            }

    def _moving(self) -> dict[str, Any]:
        """What changes by itself."""
        counters = self.tunnel.counters() if self.tunnel is not None else _NO_TRAFFIC
        return {
            "uptimeSeconds": max(0.0, round((self._clock.time_ms() - self._started_at) / 1000, 3)),
            "tunnel": {
                "bytesIn": counters.bytes_in,
                "bytesOut": counters.bytes_out,
                "openConnections": counters.open_connections,
                "totalConnections": counters.total_connections,
            },
        }
