"""A viewer's way from a connection to its first answer through the tunnel."""

from __future__ import annotations

from collections.abc import Callable

from runicorn_remote.errors import StartCancelled, ViewerExited, ViewerStartFailed
from runicorn_remote.services import health_check
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.viewer_session import ViewerSession

# From listening to the first answer takes milliseconds; a host that swaps may need longer.
_HEALTH_ATTEMPTS = 6


class StartUp:
    """Stateless; may be called from any thread. Waits for the host, within the launcher's deadlines."""

    def __init__(
        self,
        launcher: Launcher,
        registry: SessionRegistry,
        *,
        health_timeout: float,
        server_id: Callable[[], str],
    ) -> None:
        """`health_timeout`: seconds for one answer. `server_id`: the mark of our viewers on their hosts."""
        self._launcher = launcher
        self._registry = registry
        self._health_timeout = health_timeout
        self._server_id = server_id

    def launch(self, session: ViewerSession) -> None:
        """Launch over the session's connection, attach its tunnel, and wait for an answer through it.

        Raises what `Launcher.launch` raises, and `ViewerStartFailed` (VIEWER_NOT_ANSWERING).
        """
        host, tunnel = session.host, session.tunnel
        if host is None or tunnel is None:
            raise ViewerStartFailed("there is no connection")
        request = {**session.launch_request, "server": self._server_id()}
        self._launcher.launch(host, session, request)
        process = session.process
        if process is None:
            raise ViewerStartFailed("the host did not say which process it started")
        tunnel.attach(host.transport, process.port)
        for _ in range(_HEALTH_ATTEMPTS):
            if session.cancelled.is_set():
                raise StartCancelled("it was stopped while starting")
            # Found again after a crash of ours from here on; the disk is as slow as the answer.
            if health_check.is_healthy(session.local_port, self._health_timeout, self._registry.remember):
                if session.ready():
                    return
                raise StartCancelled("it was stopped while starting")
            state = self._launcher.process_state(host, session.id, process)
            if not state.alive:
                raise ViewerExited("the viewer ended while starting", log_tail=state.log_tail)
        raise ViewerStartFailed(
            "the viewer listens on the host and does not answer through the tunnel",
            code="VIEWER_NOT_ANSWERING",
            hint="Does the host's sshd allow forwarding (AllowTcpForwarding, PermitOpen)?",
        )

    def launch_again(self, session: ViewerSession) -> None:
        """Start a crashed viewer on its old remote port, if that is free. Raises as `launch` does."""
        try:
            self.launch(session)
        except ViewerStartFailed as error:
            if error.code != "VIEWER_RUNNING" or session.host is None:
                raise
            # Started by an earlier server, which was killed before it could write that down.
            self._launcher.stop(session.host, session.id, None)
            self.launch(session)
