"""The rules by which one viewer's session changes.

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

from collections import deque
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import RemoteError, ViewerStartFailed
from runicorn_remote.services.session_fields import (
    CONNECTING,
    DEGRADED,
    DISCONNECTED,
    ERROR,
    RECONNECTING,
    RUNNING,
    STOPPING,
    WATCHED,
    RemoteProcess,
    SessionFields,
)
from runicorn_remote.services.session_picture import fields_of
from runicorn_remote.services.session_state import SessionState
from runicorn_remote.services.session_store import SessionRecord
from runicorn_remote.services.start_phases import StartPhases
from runicorn_remote.services.viewer_log import LogTail
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel


class ViewerSession(SessionState):
    """The state machine. Thread-safe: every change is one step under the session's lock."""

    def __init__(self, fields: SessionFields, tunnel: Tunnel | None, clock: Clock) -> None:
        """`new` and `from_record` make one."""
        super().__init__(fields, tunnel, clock)
        # Health checks without an answer, in a row.
        self._failures = 0
        self._restarting = False
        # A restart was cut short by the link: the same crash is not counted again.
        self._restart_due = False
        self._crashes: deque[float] = deque(maxlen=100)

    @classmethod
    def new(
        cls,
        session_id: str,
        target: Target,
        tunnel: Tunnel | None,
        *,
        local_port: int,
        remote_root: str,
        environment: str | None,
        remote_port: int | None,
        launch_args: dict[str, str] | None = None,
        clock: Clock,
    ) -> ViewerSession:
        """A session that starts: `connecting`. What is None the host decides."""
        fields = SessionFields(
            id=session_id,
            target=target,
            local_port=local_port,
            started_at=clock.time_ms(),
            remote_root=remote_root,
            environment=environment,
            wanted_port=remote_port,
            launch_args=launch_args,
            phases=StartPhases(clock),
        )
        return cls(fields, tunnel, clock)

    @classmethod
    def from_record(cls, record: SessionRecord, clock: Clock) -> ViewerSession:
        """A session that an earlier server left: `reconnecting`, without tunnel and connection."""
        session = cls(fields_of(record, clock), None, clock)
        session.saved_server_id = record.saved_server_id
        session.remains = True
        return session

    @property
    def restarting(self) -> bool:
        """Whether the viewer is just being started again after a crash."""
        with self._lock:
            return self._restarting

    # --- the start, and a start after a crash

    def set_phase(self, phase: str) -> None:
        with self._changing() as fields:
            fields.phases.begin(phase)

    def prepared(self, *, remote_root: str, environment: str, runicorn_version: str | None) -> None:
        """What the host made of the request: absolute root, the environment's name, its runicorn."""
        with self._changing() as fields:
            fields.remote_root = remote_root
            fields.environment = environment
            fields.runicorn_version = runicorn_version
            fields.phases.begin("launching")

    def launched(self, process: RemoteProcess) -> None:
        with self._changing() as fields:
            fields.process = process
            fields.phases.begin("waiting")

    def listening(self, node: str | None = None) -> None:
        """The viewer goes on without us: a crash of this server must not make it an orphan any more.

        `node`: the compute node it runs on, if it is none of the host's own processes.
        """
        with self._lock:
            self._fields.listening = True
            self._fields.node = node

    def ready(self) -> bool:
        """The viewer has answered through the tunnel. False if the session was stopped meanwhile."""
        with self._changing() as fields:
            if fields.status not in (CONNECTING, RECONNECTING) or self.cancelled.is_set():
                return False
            if self._restarting:
                fields.restarts += 1
            self._restarting = False
            fields.phases.begin(StartPhases.READY)
            self._be_running(fields)
            return True

    def start_failed(self, error: RemoteError) -> bool:
        """A start that nobody waits for has failed, and nothing of it is left; the session says why.

        False if it was stopped meanwhile.
        """
        with self._changing() as fields:
            if fields.status != CONNECTING or self.cancelled.is_set():
                return False
            fields.status, fields.error, fields.error_code = ERROR, str(error), error.code
            fields.error_detail = error.detail if isinstance(error.detail, dict) else None
            fields.phases.end()
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
        with self._changing() as fields:
            if fields.status in WATCHED:
                self._be_running(fields)

    def deaf(self, needed: int) -> None:
        """The link and the process are there and no answer comes; `needed` times in a row is degraded."""
        with self._changing() as fields:
            self._failures += 1
            if fields.status in WATCHED and self._failures >= needed:
                fields.status = DEGRADED
                fields.error = "The viewer does not answer; its process and the SSH connection are alive"
                fields.error_code = "VIEWER_NOT_ANSWERING"

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
        with self._changing() as fields:
            if fields.status != RECONNECTING:
                return False
            fields.reconnects += 1
            self._be_running(fields)
            return True

    def crashed(
        self, error: str, *, limit: int, within: float, process: RemoteProcess | None = None
    ) -> bool | None:
        """The process ended unexpectedly. True: it may be started again, and is now `reconnecting`.

        False: it crashed too often. None: that is not to be dealt with, because the session is being
        stopped, the viewer is being started again already, or `process` is not its process any more.
        """
        with self._changing() as fields:
            if fields.status not in (*WATCHED, RECONNECTING) or self._restarting:
                return None
            if process is not None and process != fields.process:
                return None
            now = self._clock.monotonic()
            if not self._restart_due:
                self._crashes.append(now)
            self._restart_due = False
            if sum(now - crash < within for crash in self._crashes) > limit:
                return False
            fields.status = RECONNECTING
            fields.error, fields.error_code = error, "VIEWER_RESTARTING"
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
        with self._changing() as fields:
            self.cancelled.set()
            if fields.status in (CONNECTING, STOPPING):
                return False
            fields.status = STOPPING
            return True

    def _change(
        self,
        allowed: tuple[str, ...],
        status: str,
        error: str | None,
        code: str | None,
        detail: dict[str, Any] | None = None,
    ) -> bool:
        with self._changing() as fields:
            if fields.status not in allowed:
                return False
            fields.status, fields.error, fields.error_code = status, error, code
            fields.error_detail = detail
            return True

    def _be_running(self, fields: SessionFields) -> None:
        fields.status = RUNNING
        fields.error = fields.error_code = fields.error_detail = None
        self._failures = 0
        fields.last_healthy_at = self._clock.time_ms()
