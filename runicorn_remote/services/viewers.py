"""Starting and ending viewers: what the API asks for.

What changes a session's state lives in `viewer_session`, what happens on the host in `launcher`, what
happens by itself in `heartbeat` and `recovery`; all sessions are in `session_registry`.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import Busy, InvalidValue, RemoteError, StartCancelled
from runicorn_remote.services import viewer_log
from runicorn_remote.services.connections import Connections, Login
from runicorn_remote.services.launch_commands import LaunchCommands
from runicorn_remote.services.metrics import Metrics
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.start_up import StartUp
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.target import Target

logger = logging.getLogger(__name__)


class Viewers:
    """May be called from any thread; holds no lock."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        connections: Connections,
        registry: SessionRegistry,
        holdings: SessionHoldings,
        launch_commands: LaunchCommands,
        start_up: StartUp,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._connections = connections
        self._registry = registry
        self._holdings = holdings
        self._launch_commands = launch_commands
        self._start_up = start_up
        self._metrics = metrics

    def start(
        self,
        login: Login,
        *,
        remote_root: str,
        local_port: int | None = None,
        remote_port: int | None = None,
        environment: str | None = None,
        launch_args: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Start a viewer; returns its snapshot when it has answered through the tunnel.

        Raises what `reserve` and `run_start` raise. Whatever it raises, nothing is left behind.
        """
        session = self.reserve(
            login,
            remote_root=remote_root,
            local_port=local_port,
            remote_port=remote_port,
            environment=environment,
            launch_args=launch_args,
        )
        self.run_start(session, login)
        return session.snapshot()

    def reserve(
        self,
        login: Login,
        *,
        remote_root: str,
        local_port: int | None = None,
        remote_port: int | None = None,
        environment: str | None = None,
        launch_args: dict[str, str] | None = None,
    ) -> ViewerSession:
        """The first half of a start: a session that is listed, and has its local port. Asks no host.

        Raises `InvalidValue`, `LaunchArgumentsUnusable`, `SavedServerNotFound`, `SavedServerMismatch`,
        `LocalPortInUse`, `Busy`.
        """
        if not remote_root.strip():
            raise InvalidValue("remote_root is empty; give the storage directory on the host")
        target, _ = self._connections.resolve(login)
        self._launch_commands.check(target, launch_args)
        self._registry.make_room()
        session_id = secrets.token_hex(8)
        tunnel = self._holdings.open_tunnel(session_id, local_port)
        session = ViewerSession.new(
            session_id,
            target,
            tunnel,
            local_port=tunnel.local_port,
            remote_root=remote_root,
            environment=environment,
            remote_port=remote_port,
            launch_args=launch_args,
            clock=self._clock,
        )
        session.saved_server_id = login.saved_server_id
        try:
            self._registry.add(session)
        except Busy:
            self._holdings.close_tunnel(tunnel)
            raise
        return session

    def run_start(self, session: ViewerSession, login: Login, *, keep_failed: bool = False) -> None:
        """The second half: log in, launch, and wait for an answer through the tunnel.

        Raises what a login raises, and what `StartUp.launch` raises. Nothing of a start that failed is
        left; with `keep_failed` its session stays listed, and says why.
        """
        try:
            with self._metrics.viewer_starts.measure():
                if session.cancelled.is_set():
                    raise StartCancelled("it was stopped while starting")
                session.host, session.credentials = self._connections.open_for(login, session.id)
                session.set_phase("preparing")
                self._start_up.launch(session)
        except BaseException as error:
            self._clear_up(session, error if keep_failed else None)
            if session.cancelled.is_set() and not isinstance(error, StartCancelled):
                raise StartCancelled("it was stopped while starting") from error
            raise
        logger.info("Viewer %s on %s is ready at port %d", session.id, session.target, session.local_port)
        self._metrics.start_took(session.phases)

    def stop(self, session_id: str) -> None:
        """End a viewer, its tunnel and its hold on the connection. Raises `SessionNotFound`.

        A session that is still starting is cancelled. When this returns, nothing of it is left here;
        if the host could not be reached, its viewer ends itself for lack of requests.
        """
        session = self._registry.get(session_id)
        if session.begin_stop():
            # A restart that is under way notices, and ends within its current step.
            session.restart_over.wait(self._settings.viewer_stop_timeout + self._settings.connect_timeout)
            self._dispose(session)
            logger.info("Viewer %s on %s is stopped", session.id, session.target)
        elif not session.gone.wait(self._settings.viewer_stop_timeout + self._settings.connect_timeout):
            raise Busy(f"Session {session_id} is still being ended", code="STOP_IN_PROGRESS")

    def stop_all(self, target: Target | None = None) -> None:
        """End all viewers, or those on one target, side by side."""
        threads = ThreadGroup(self._clock)
        for session in self._registry.sessions():
            if target in (None, session.target) and not threads.start(
                f"stop-{session.id}", self._stop_quietly, session.id
            ):
                self._stop_quietly(session.id)
        threads.join(self._settings.viewer_stop_timeout + self._settings.shutdown_timeout)

    def close(self, *, keep: bool = False) -> None:
        """End everything, or, with `keep`, leave the running viewers for the next server to find.

        No session can be started afterwards.
        """
        self._registry.close()
        if not keep:
            self.stop_all()
            return
        self._registry.cancel_starts()
        for session in self._registry.sessions():
            if session.cancelled.is_set():
                session.gone.wait(self._settings.viewer_stop_timeout)
            else:
                self._holdings.close_tunnel(session.tunnel)
        self._registry.remember()

    def log(self, session_id: str, lines: int) -> dict[str, Any]:
        """The last lines of a viewer's log. Raises `SessionNotFound`, and what `viewer_log.tail` raises."""
        session = self._registry.get(session_id)
        return viewer_log.tail(session, lines, self._clock, self._settings.channel_timeout)

    # --- the ends

    def _clear_up(self, session: ViewerSession, keep: BaseException | None) -> None:
        """After a failed start. `keep`: why it failed, for the session to say."""
        try:
            self._holdings.release(session)
        finally:
            if keep is None or not session.start_failed(_told(keep)):
                self._registry.forget(session)

    def _dispose(self, session: ViewerSession) -> None:
        """End the remote process, then the tunnel, then the hold; forget the session."""
        try:
            self._holdings.release(session)
        finally:
            self._registry.forget(session)

    def _stop_quietly(self, session_id: str) -> None:
        try:
            self.stop(session_id)
        except RemoteError as error:
            logger.info("Session %s: %s", session_id, error)


def _told(error: BaseException) -> RemoteError:
    """The error as a session shows it: what is not one of ours says nothing about the inside."""
    if isinstance(error, RemoteError):
        return error
    return RemoteError("Internal server error. The server's log has the details.", code="INTERNAL_ERROR")
