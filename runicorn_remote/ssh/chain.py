"""The connections that carry each other: jump hosts, and the target's on top."""

from __future__ import annotations

import contextlib
import threading
import time

import fabric

from .proxy_command import ProxyCommand

_ENDS_WITHIN = 2.0


class Chain:
    """Logged-in connections in the order in which they were dialled, and what the first one runs over.

    For one thread while it is built; `close` may then be called from any.
    """

    def __init__(self) -> None:
        self.connections: list[fabric.Connection] = []
        self.proxy: ProxyCommand | None = None

    @property
    def last(self) -> fabric.Connection:
        """What the next one is dialled over; in the end, the connection to the target itself."""
        return self.connections[-1]

    def close(self) -> None:
        """End all connections and their threads, within a few seconds.

        The outermost first: closing an inner one sends, and its carrier may be frozen.
        """
        transports = [connection.transport for connection in self.connections]
        for connection in self.connections:
            connection.client.close()
        deadline = time.monotonic() + _ENDS_WITHIN
        for transport in transports:
            if transport is not None and threading.current_thread() is not transport:
                transport.join(max(0.0, deadline - time.monotonic()))
        if self.proxy is not None:
            with contextlib.suppress(ProcessLookupError):
                self.proxy.close()
