"""What a session holds: a local port with its tunnel, a connection, and a process on the host."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from runicorn_remote.errors import RemoteError
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.session_fields import ENDED
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.pool import ConnectionPool
from runicorn_remote.ssh.tunnel import Tunnel

logger = logging.getLogger(__name__)

_TUNNEL_STOP_TIMEOUT = 3.0


class SessionHoldings:
    """Takes and gives back. May be called from any thread; holds no lock."""

    def __init__(
        self,
        settings: Settings,
        pool: ConnectionPool,
        launcher: Launcher,
        registry: SessionRegistry,
        *,
        on_link_lost: Callable[[], None],
        accept_hook: Callable[[socket.socket], bool],
    ) -> None:
        """`on_link_lost`: called in tunnels' threads when a transport has ended. `accept_hook`: asked by
        tunnels about each new connection."""
        self._settings = settings
        self._pool = pool
        self._launcher = launcher
        self._registry = registry
        self._on_link_lost = on_link_lost
        self._accept_hook = accept_hook

    # --- the local port

    def open_tunnel(self, session_id: str, local_port: int | None) -> Tunnel:
        """A tunnel that leads nowhere yet; None: any free port. Raises `LocalPortInUse`."""
        return Tunnel(
            session_id,
            local_port=local_port,
            max_connections=self._settings.max_tunnel_connections,
            channel_timeout=self._settings.channel_timeout,
            on_link_lost=lambda transport: self._on_link_lost(),
            accept_hook=self._accept_hook,
        )

    def close_tunnel(self, tunnel: Tunnel | None) -> None:
        if tunnel is not None:
            tunnel.stop(_TUNNEL_STOP_TIMEOUT)

    def bind(self, session: ViewerSession) -> None:
        """Bind the local port of a session found on disk. Raises `LocalPortInUse`."""
        if session.tunnel is None:
            session.tunnel = self.open_tunnel(session.id, session.local_port)
            # Whoever connects is turned away after a while, rather than left without an answer.
            session.tunnel.detach()
        if session.cancelled.is_set():  # whoever stopped it may not have seen the tunnel
            self.close_tunnel(session.tunnel)

    # --- the connection, and the process behind it

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
            self._stop_process(host, session)
        finally:
            self._pool.release(host, session.id)
        return False

    def release(self, session: ViewerSession) -> None:
        """End what a session has on its host and here. It stays listed; safe to call again."""
        host, session.host = session.host, None
        try:
            if host is not None:
                self._stop_process(host, session)
        finally:
            self.close_tunnel(session.tunnel)
            if host is not None:
                self._pool.release(host, session.id)
            self._registry.remember()

    def _stop_process(self, host: RemoteHost, session: ViewerSession) -> None:
        if not session.remains:
            return
        try:
            self._launcher.stop(host, session.id, session.process)
            session.remains = False
        except RemoteError as error:
            logger.warning(
                "The viewer of session %s on %s could not be ended: %s", session.id, session.target, error
            )
