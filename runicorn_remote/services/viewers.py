"""Starting, listing and ending viewers. What changes a session's state lives in `viewer_session`,
what happens on the host in `launcher`, what happens by itself in `heartbeat` and `recovery`."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    Busy,
    InvalidValue,
    RemoteError,
    SessionNotFound,
    StartCancelled,
    ViewerExited,
    ViewerStartFailed,
)
from runicorn_remote.services import health_check, viewer_log
from runicorn_remote.services.connections import Connections, Login
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.metrics import Metrics
from runicorn_remote.services.session_store import SessionRecord, SessionStore
from runicorn_remote.services.viewer_session import CONNECTING, ENDED, ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.pool import ConnectionPool
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.tunnel import Tunnel, TunnelCounters

logger = logging.getLogger(__name__)

# From listening to the first answer takes milliseconds; a host that swaps may need longer.
_HEALTH_ATTEMPTS = 6
_TUNNEL_STOP_TIMEOUT = 3.0


class Viewers:
    """The registry of sessions. Thread-safe; its lock is held for dictionary work only."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        connections: Connections,
        pool: ConnectionPool,
        launcher: Launcher,
        store: SessionStore,
        *,
        on_link_lost: Callable[[], None],
        accept_hook: Callable[[socket.socket], bool],
        metrics: Metrics,
    ) -> None:
        """`on_link_lost`: called in tunnels' threads when a transport has ended. `accept_hook`: asked by
        tunnels about each new connection."""
        self._settings = settings
        self._clock = clock
        self._connections = connections
        self._pool = pool
        self._launcher = launcher
        self._store = store
        self._on_link_lost = on_link_lost
        self._accept_hook = accept_hook
        self._metrics = metrics
        self._lock = threading.Lock()
        self._sessions: dict[str, ViewerSession] = {}
        # What went through the tunnels of sessions that are gone.
        self._past = TunnelCounters(0, 0, 0, 0)
        self._closed = False
        # What the disk does not have yet; tried again by `prune`.
        self._unsaved = threading.Event()
        self._saving = threading.Lock()

    def start(
        self,
        login: Login,
        *,
        remote_root: str,
        local_port: int | None = None,
        remote_port: int | None = None,
        environment: str | None = None,
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
    ) -> ViewerSession:
        """The first half of a start: a session that is listed, and has its local port. Asks no host.

        Raises `InvalidValue`, `SavedServerNotFound`, `SavedServerMismatch`, `LocalPortInUse`, `Busy`.
        """
        if not remote_root.strip():
            raise InvalidValue("remote_root is empty; give the storage directory on the host")
        target, _ = self._connections.resolve(login)
        session = self._reserve(target, remote_root, environment, local_port, remote_port)
        session.saved_server_id = login.saved_server_id
        return session

    def run_start(self, session: ViewerSession, login: Login, *, keep_failed: bool = False) -> None:
        """The second half: log in, launch, and wait for an answer through the tunnel.

        Raises what a login raises, and what `Launcher.launch` raises. Nothing of a start that failed is
        left; with `keep_failed` its session stays listed, and says why.
        """
        try:
            with self._metrics.viewer_starts.measure():
                if session.cancelled.is_set():
                    raise StartCancelled("it was stopped while starting")
                session.host, session.credentials = self._connections.open_for(login, session.id)
                session.set_phase("preparing")
                self._launch(session)
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
        session = self.get(session_id)
        if session.begin_stop():
            # A restart that is under way notices, and ends within its current step.
            session.restart_over.wait(self._settings.viewer_stop_timeout + self._settings.connect_timeout)
            self._dispose(session)
            logger.info("Viewer %s on %s is stopped", session.id, session.target)
        elif not session.gone.wait(self._settings.viewer_stop_timeout + self._settings.connect_timeout):
            raise Busy(f"Session {session_id} is still being ended", code="STOP_IN_PROGRESS")

    def stop_all(self, target: Target | None = None) -> None:
        """End all viewers, or those on one target, side by side."""
        sessions = [session for session in self.sessions() if target in (None, session.target)]
        threads = [thread for session in sessions if (thread := self._stop_aside(session)) is not None]
        deadline = (
            self._clock.monotonic() + self._settings.viewer_stop_timeout + self._settings.shutdown_timeout
        )
        for thread in threads:
            thread.join(max(0.0, deadline - self._clock.monotonic()))

    def cancel_starts(self) -> None:
        """Make starts that are under way end soon. Only sets flags: a signal handler may call it."""
        for session in list(self._sessions.values()):
            if session.status == CONNECTING:
                session.cancelled.set()

    def wake_followers(self) -> None:
        """Have all who wait for events look up. A signal handler may call it."""
        for session in list(self._sessions.values()):
            session.events.wake()

    def close(self, *, keep: bool = False) -> None:
        """End everything, or, with `keep`, leave the running viewers for the next server to find.

        No session can be started afterwards.
        """
        with self._lock:
            self._closed = True
        if not keep:
            self.stop_all()
            return
        for session in self.sessions():
            if session.status == CONNECTING:
                session.cancelled.set()
        for session in self.sessions():
            if session.cancelled.is_set():
                session.gone.wait(self._settings.viewer_stop_timeout)
            elif session.tunnel is not None:
                session.tunnel.stop(_TUNNEL_STOP_TIMEOUT)
        self.remember()

    def get(self, session_id: str) -> ViewerSession:
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(session_id if session_id.isprintable() and len(session_id) <= 100 else "?")
        return session

    def sessions(self) -> list[ViewerSession]:
        with self._lock:
            return list(self._sessions.values())

    def snapshots(self) -> list[dict[str, Any]]:
        """All sessions in the API's shape, starting ones included."""
        return [session.snapshot() for session in self.sessions()]

    def snapshots_json(self) -> list[str]:
        """The same, each as JSON text."""
        return [session.snapshot_json() for session in self.sessions()]

    def log(self, session_id: str, lines: int) -> dict[str, Any]:
        """The last lines of a viewer's log. Raises `SessionNotFound`, and what `viewer_log.tail` raises."""
        return viewer_log.tail(self.get(session_id), lines, self._clock, self._settings.channel_timeout)

    def census(self) -> tuple[list[ViewerSession], TunnelCounters]:
        """All sessions, and what went through tunnels since the start, ended ones included."""
        with self._lock:
            sessions, total = list(self._sessions.values()), self._past
        for session in sessions:
            if session.tunnel is not None:
                total += session.tunnel.counters()
        return sessions, total

    def release(self, session: ViewerSession) -> None:
        """End what a session has on its host and here. It stays listed; safe to call again."""
        host, session.host = session.host, None
        try:
            if host is not None and session.remains:
                self._stop_process(host, session)
        finally:
            if session.tunnel is not None:
                session.tunnel.stop(_TUNNEL_STOP_TIMEOUT)
            if host is not None:
                self._pool.release(host, session.id)
            self.remember()

    def prune(self) -> None:
        """Forget sessions that ended by themselves long ago; write what could not be written before."""
        for session in self.sessions():
            if session.status in ENDED and session.ended_for > self._settings.ended_session_ttl:
                self._forget(session)
        if self._unsaved.is_set():
            self.remember()

    # --- across restarts of this server

    def restore(self, records: list[SessionRecord]) -> set[Target]:
        """List the sessions of an earlier server, `reconnecting`. Returns where they are."""
        sessions = [ViewerSession.from_record(record, self._clock) for record in records]
        for record, session in zip(records, sessions, strict=True):
            self._recall_credentials(record, session)
            try:
                self.bind(session)
            except RemoteError as error:
                session.give_up(str(error), error.code)
        with self._lock:
            self._sessions.update({session.id: session for session in sessions})
        return {session.target for session in sessions}

    def remember(self) -> None:
        """Write the sessions to disk. A disk that is full costs nothing but the memory."""
        with self._saving:
            records = [record for session in self.sessions() if (record := session.record()) is not None]
            if self._store.save(records):
                self._unsaved.clear()
            else:
                self._unsaved.set()

    def bind(self, session: ViewerSession) -> None:
        """Bind the local port of a session found on disk. Raises `LocalPortInUse`."""
        if session.tunnel is None:
            session.tunnel = self._new_tunnel(session.id, session.local_port)
            # Whoever connects is turned away after a while, rather than left without an answer.
            session.tunnel.detach()
        if session.cancelled.is_set():  # whoever stopped it may not have seen the tunnel
            session.tunnel.stop(_TUNNEL_STOP_TIMEOUT)

    def hold(self, session: ViewerSession, host: RemoteHost) -> bool:
        """Have the session hold this connection, and no longer another. Raises `LinkLost`.

        False if the session is over meanwhile. Its viewer could not be reached then, and is ended now.
        """
        self._pool.hold(host, session.id)
        before, session.host = session.host, host
        if before is not None and before is not host:
            self._pool.release(before, session.id)
        if not (session.cancelled.is_set() or session.status in ENDED):
            return True
        session.host = None
        try:
            if session.remains:
                self._stop_process(host, session)
        finally:
            self._pool.release(host, session.id)
        return False

    def launch_again(self, session: ViewerSession) -> None:
        """Start a crashed viewer on its old remote port, if that is free. Raises as `start` does."""
        try:
            self._launch(session)
        except ViewerStartFailed as error:
            if error.code != "VIEWER_RUNNING" or session.host is None:
                raise
            # Started by an earlier server, which was killed before it could write that down.
            self._launcher.stop(session.host, session.id, None)
            self._launch(session)

    def _recall_credentials(self, record: SessionRecord, session: ViewerSession) -> None:
        """What can be had without asking: the agent, a key file, a saved server. Else None."""
        login = Login(
            host=record.host,
            port=record.port,
            username=record.username,
            private_key_path=record.private_key_path,
            use_agent=record.use_agent,
            saved_server_id=record.saved_server_id,
        )
        try:
            credentials = self._connections.resolve(login)[1]
        except RemoteError as error:
            logger.info("Session %s: its saved server cannot be used: %s", session.id, error)
            return
        if credentials.has_secret or not record.needs_secret:
            session.credentials = credentials

    # --- the steps of a start

    def _reserve(
        self,
        target: Target,
        remote_root: str,
        environment: str | None,
        local_port: int | None,
        remote_port: int | None,
    ) -> ViewerSession:
        """Bind the local port and list the session, before anything happens remotely."""
        self._make_room()
        if len(self.sessions()) >= self._settings.max_viewers:
            raise Busy(
                "The limit of viewers is reached; stop one first", code="TOO_MANY_VIEWERS", retry_after=30
            )
        session_id = secrets.token_hex(8)
        tunnel = self._new_tunnel(session_id, local_port)
        session = ViewerSession(
            session_id,
            target,
            tunnel,
            local_port=tunnel.local_port,
            remote_root=remote_root,
            environment=environment,
            remote_port=remote_port,
            clock=self._clock,
        )
        with self._lock:
            if not self._closed:
                self._sessions[session_id] = session
                return session
        tunnel.stop(_TUNNEL_STOP_TIMEOUT)
        raise Busy("The server is shutting down", code="SHUTTING_DOWN")

    def _make_room(self) -> None:
        """At the limit, viewers that ended by themselves are forgotten before a new one is refused."""
        sessions = self.sessions()
        ended = [session for session in sessions if session.status in ENDED]
        if ended and len(sessions) >= self._settings.max_viewers:
            self._forget(max(ended, key=lambda session: session.ended_for))

    def _new_tunnel(self, session_id: str, local_port: int | None) -> Tunnel:
        return Tunnel(
            session_id,
            local_port=local_port,
            max_connections=self._settings.max_tunnel_connections,
            channel_timeout=self._settings.channel_timeout,
            on_link_lost=lambda transport: self._on_link_lost(),
            accept_hook=self._accept_hook,
        )

    def _launch(self, session: ViewerSession) -> None:
        """Launch, attach the tunnel, and wait for an answer through it."""
        host, tunnel = session.host, session.tunnel
        if host is None or tunnel is None:
            raise ViewerStartFailed("there is no connection")
        request = {**session.launch_request, "server": self._store.server_id}
        self._launcher.launch(host, session, request)
        process = session.process
        if process is None:
            raise ViewerStartFailed("the host did not say which process it started")
        tunnel.attach(host.transport, process.port)
        for _ in range(_HEALTH_ATTEMPTS):
            if session.cancelled.is_set():
                raise StartCancelled("it was stopped while starting")
            # Found again after a crash of ours from here on; the disk is as slow as the answer.
            if health_check.is_healthy(session.local_port, self._settings.health_timeout, self.remember):
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

    # --- the ends

    def _clear_up(self, session: ViewerSession, keep: BaseException | None) -> None:
        """After a failed start. `keep`: why it failed, for the session to say."""
        try:
            self.release(session)
        finally:
            if keep is None or not session.start_failed(_told(keep)):
                self._forget(session)

    def _dispose(self, session: ViewerSession) -> None:
        """End the remote process, then the tunnel, then the hold; forget the session."""
        try:
            self.release(session)
        finally:
            self._forget(session)

    def _stop_process(self, host: RemoteHost, session: ViewerSession) -> None:
        try:
            self._launcher.stop(host, session.id, session.process)
            session.remains = False
        except RemoteError as error:
            logger.warning(
                "The viewer of session %s on %s could not be ended: %s", session.id, session.target, error
            )

    def _forget(self, session: ViewerSession) -> None:
        with self._lock:
            known = self._sessions.pop(session.id, None) is not None
            if known and session.tunnel is not None:
                self._past += replace(session.tunnel.counters(), open_connections=0)
        session.gone.set()
        session.over("removed")

    def _stop_aside(self, session: ViewerSession) -> threading.Thread | None:
        """Stop in a thread of its own. None: it is done already, in this one."""
        thread = threading.Thread(
            target=copy_context().run,
            args=(self._stop_quietly, session.id),
            name=f"stop-{session.id}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # Python 3.12.0 and 3.12.1 start none in an atexit handler
            self._stop_quietly(session.id)
            return None
        return thread

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
