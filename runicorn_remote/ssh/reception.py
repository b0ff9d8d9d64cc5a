"""Where a tunnel's connections begin: the listeners, who is let in, and who waits for a link."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial

from .deadlines import Deadlines
from .event_loop import READ, EventLoop
from .traffic import Traffic

log = logging.getLogger(__name__)

_BURST = 64
_PAUSE = 0.2  # seconds


class Reception:
    """For the tunnel thread, but for `close`.

    Gives each admitted socket, non-blocking, to `serve`; while that returns False, for want of a link,
    the socket waits, up to `hold_timeout` seconds and `hold_limit` of them. Then it is closed.
    """

    def __init__(
        self,
        name: str,
        listeners: list[socket.socket],
        loop: EventLoop,
        traffic: Traffic,
        serve: Callable[[socket.socket], bool],
        *,
        max_connections: int,
        hold_timeout: float,
        hold_limit: int,
        accept_hook: Callable[[socket.socket], bool] | None,
    ) -> None:
        self._name = name
        self._listeners = listeners
        self._loop = loop
        self._traffic = traffic
        self._serve = serve
        self._max_connections = max_connections
        self._hold_limit = hold_limit
        self._accept_hook = accept_hook
        self._held: Deadlines[socket.socket] = Deadlines(hold_timeout)
        self._paused: Deadlines[str] = Deadlines(_PAUSE)
        self.deadlines = (self._held, self._paused)

    def open(self) -> None:
        """Accept connections from now on."""
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.watch(listener, READ, partial(self._accept, listener))

    def close(self) -> None:
        """Free the port. Any thread."""
        for listener in self._listeners:
            listener.close()

    def serve_held(self) -> None:
        """There is a link again."""
        for sock in self._held.take_all():
            if not self._serve(sock):
                self._held.add(sock)

    def turn_away_held(self) -> None:
        for sock in self._held.take_all():
            self._turn_away(sock)

    def expire(self, now: float) -> None:
        for sock in self._held.take_expired(now):
            self._turn_away(sock)
        if self._paused.take_expired(now):
            self.open()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            self._admit(sock)

    def _pause(self, error: OSError) -> None:
        """Most likely the process is out of descriptors, and asking again at once would not help."""
        log.warning("%s: cannot accept connections: %s", self._name, error.strerror)
        self._paused.add("accepting")
        for listener in self._listeners:
            self._loop.unwatch(listener)

    def _admit(self, sock: socket.socket) -> None:
        if self._traffic.open_connections >= self._max_connections or not self._is_welcome(sock):
            sock.close()
            return
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # macOS: the client has gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._traffic.opened()
        if self._serve(sock):
            return
        if len(self._held) < self._hold_limit:
            self._held.add(sock)
        else:
            self._turn_away(sock)

    def _is_welcome(self, sock: socket.socket) -> bool:
        if self._accept_hook is None:
            return True
        try:
            return self._accept_hook(sock)
        except Exception:
            log.exception("%s: accept_hook failed", self._name)
            return False

    def _turn_away(self, sock: socket.socket) -> None:
        self._traffic.closed()
        sock.close()
