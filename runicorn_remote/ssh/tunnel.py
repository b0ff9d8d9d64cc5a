"""A local port whose connections come out at a port of the remote host.

    tunnel = Tunnel("viewer-1", local_port=None, max_connections=1000, channel_timeout=10.0)
    tunnel.attach(transport, remote_port=8080)     # http://localhost:{tunnel.local_port} works
    tunnel.detach()                                # the link is lost: clients are reset, new ones wait
    tunnel.attach(new_transport, remote_port=8080) # the ones that waited are served
    tunnel.stop()

One thread a tunnel (`forwarder.py`), whatever the number of its connections; how a connection's bytes
travel is in `forward_channel.py`. Several tunnels can share one transport.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .forwarder import Forwarder
from .link import Link
from .loopback import listen_on_loopback
from .traffic import Traffic
from .transport import TunnelTransport

HOLD_TIMEOUT = 5.0
HOLD_LIMIT = 64


@dataclass(frozen=True)
class TunnelCounters:
    """Since the tunnel began. `bytes_in` is what the local clients received, `bytes_out` what they sent."""

    bytes_in: int
    bytes_out: int
    open_connections: int
    total_connections: int

    def __add__(self, other: TunnelCounters) -> TunnelCounters:
        return TunnelCounters(
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.open_connections + other.open_connections,
            self.total_connections + other.total_connections,
        )


class Tunnel:
    """A forwarded port. Every method may be called from any thread and returns without asking the network."""

    def __init__(
        self,
        name: str,
        *,
        local_port: int | None,
        max_connections: int,
        channel_timeout: float,
        accept_hook: Callable[[socket.socket], bool] | None = None,
        on_link_lost: Callable[[TunnelTransport], None] | None = None,
        hold_timeout: float = HOLD_TIMEOUT,
        hold_limit: int = HOLD_LIMIT,
    ) -> None:
        """Bind 127.0.0.1 and ::1, on one port; the first `attach` or `detach` begins to accept connections.

        `local_port` None: any free one. `max_connections`: more are closed at once. `channel_timeout`:
        seconds the remote host has to answer a new connection. `accept_hook`: asked about each new
        connection, in the tunnel's thread; must be quick; False closes it. `on_link_lost`: called in the
        tunnel's thread, once for each attached transport that ends by itself. While no transport is
        attached, up to `hold_limit` new connections wait up to `hold_timeout` seconds for one.

        Raises `LocalPortInUse`, and `InvalidValue` for a port this user may not have.
        """
        listeners = listen_on_loopback(local_port)
        self.name = name
        self.local_port: int = listeners[0].getsockname()[1]
        self._traffic = Traffic()
        self._lock = threading.Lock()  # guards the two below
        self._started = False
        self._stopped = False
        self._forwarder = Forwarder(
            f"tunnel-{name}",
            listeners,
            self._traffic,
            max_connections=max_connections,
            channel_timeout=channel_timeout,
            hold_timeout=hold_timeout,
            hold_limit=hold_limit,
            accept_hook=accept_hook,
            on_link_lost=on_link_lost,
        )

    def attach(self, transport: TunnelTransport, remote_port: int, remote_host: str = "127.0.0.1") -> None:
        """Forward over this transport from now on. Connections over an earlier one are reset.

        The transport must have run a command once, else sshd delays small packets. No-op after `stop`.
        """
        link = Link(transport, (remote_host, remote_port), self._forwarder)
        with self._lock:
            if self._stopped:
                return
            self._forwarder.post(lambda: self._forwarder.attach(link))
            self._begin()

    def detach(self) -> None:
        """The link is lost: reset the open connections, let new ones wait for the next `attach`.

        Before the first `attach`: there will be a link later; accept connections, which wait for it.
        """
        with self._lock:
            if self._stopped:
                return
            self._forwarder.post(self._forwarder.detach)
            self._begin()

    def _begin(self) -> None:
        """Holding the lock: the thread runs from now on."""
        if not self._started:
            self._started = True
            self._forwarder.start()

    def stop(self, deadline: float = 5.0) -> None:
        """Free the port, reset the connections, end the thread. Waits at most `deadline` seconds for that.

        Safe to call again, and from the tunnel's own callbacks (then without waiting).
        """
        ends_at = time.monotonic() + deadline
        with self._lock:
            self._stopped = True
            started = self._started
        if not started:
            self._forwarder.close_unstarted()
            return
        self._forwarder.post(self._forwarder.finish)
        if threading.current_thread() is self._forwarder:
            return
        self._forwarder.join(max(0.0, ends_at - time.monotonic()))
        if self._forwarder.is_alive():  # stuck in a send on a dead link, until the transport is closed
            self._forwarder.close_listeners()

    def counters(self) -> TunnelCounters:
        """A snapshot; takes no lock."""
        traffic = self._traffic
        return TunnelCounters(
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.bytes_out,
            open_connections=traffic.open_connections,
            total_connections=traffic.total_connections,
        )

    @property
    def last_activity(self) -> float:
        """`time.monotonic()` of the last byte of a client's connection, or of the tunnel's creation."""
        return self._traffic.last_activity

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
