"""What is known of one viewer's session: plain fields. Whoever reads or changes them holds its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runicorn_remote.services.start_phases import StartPhases
from runicorn_remote.ssh.target import Target

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


@dataclass(frozen=True)
class RemoteProcess:
    """A viewer on its host. The start time tells it from whatever gets its pid later."""

    pid: int
    start_time: str
    port: int
    directory: str


@dataclass
class SessionFields:
    """`error`, `error_code`, `error_detail`: why it is not `running`. Times are in ms since the epoch."""

    # These do not change.
    id: str
    target: Target
    local_port: int
    started_at: int
    # What was asked for; the host makes more of it.
    remote_root: str
    environment: str | None
    wanted_port: int | None
    launch_args: dict[str, str] | None
    # How far it is.
    phases: StartPhases
    status: str = CONNECTING
    error: str | None = None
    error_code: str | None = None
    error_detail: dict[str, Any] | None = None
    # What the host has said.
    runicorn_version: str | None = None
    # The compute node it runs on; None: the host itself.
    node: str | None = None
    process: RemoteProcess | None = None
    # The viewer goes on without us.
    listening: bool = False
    # What has happened.
    reconnects: int = 0
    restarts: int = 0
    last_healthy_at: int | None = None

    @property
    def remote_port(self) -> int | None:
        """The port on the host: the viewer's, or before the launch the one that was asked for."""
        return self.process.port if self.process else self.wanted_port
