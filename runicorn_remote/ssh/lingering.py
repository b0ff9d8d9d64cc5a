"""Clients that may still be sending when the remote has finished and nobody will read them.

To close such a socket at once would reset the connection, and the client might lose the end of its
answer. So its data is read and thrown away until it closes too, for a short time.
"""

from __future__ import annotations

import contextlib
import socket
from functools import partial

from .deadlines import Deadlines
from .event_loop import READ, EventLoop

_TIMEOUT = 2.0  # seconds
_DRAIN_SIZE = 64 * 1024


class Lingering:
    """For the tunnel thread."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._sockets: Deadlines[socket.socket] = Deadlines(_TIMEOUT)
        self.deadlines = (self._sockets,)

    def add(self, sock: socket.socket) -> None:
        """Takes over a non-blocking socket that the loop does not watch."""
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        self._sockets.add(sock)
        self._loop.watch(sock, READ, partial(self._drain, sock))

    def expire(self, now: float) -> None:
        for sock in self._sockets.take_expired(now):
            self._end(sock)

    def end_all(self) -> None:
        for sock in self._sockets.take_all():
            self._end(sock)

    def _drain(self, sock: socket.socket) -> None:
        try:
            if sock.recv(_DRAIN_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        self._sockets.discard(sock)
        self._loop.unwatch(sock)
        sock.close()
