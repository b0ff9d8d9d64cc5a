"""A network between a client and a host that fails without a word: a TCP relay that stops forwarding."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

TIMEOUT = 10.0
_CHUNK = 65536


class _Wire:
    """One connection through the relay: two sockets, and what is on its way to each."""

    def __init__(self, client: socket.socket, host: socket.socket) -> None:
        self.other = {client: host, host: client}
        self.waiting = {client: b"", host: b""}
        self.stranded = False
        self.ended = False

    def interests(self) -> dict[socket.socket, int]:
        found = dict.fromkeys(self.other, 0)
        for end, other in self.other.items():
            if self.waiting[end]:
                found[end] |= selectors.EVENT_WRITE
            elif not self.ended:
                found[other] |= selectors.EVENT_READ
        return {end: events for end, events in found.items() if events}

    def serve(self, end: socket.socket, events: int) -> bool:
        """False: it is over."""
        try:
            if events & selectors.EVENT_WRITE:
                self.waiting[end] = self.waiting[end][end.send(self.waiting[end]) :]
            if events & selectors.EVENT_READ:
                data = end.recv(_CHUNK)
                self.waiting[self.other[end]] += data
                self.ended = self.ended or not data
        except BlockingIOError:
            return True
        except OSError:
            return False
        return not self.ended or any(self.waiting.values())

    def close(self) -> None:
        for end in self.other:
            end.close()


class WeakNetwork:
    """Listens on 127.0.0.1:`port` and forwards to `host`:`host_port` until `close`. Owns one thread."""

    host = "127.0.0.1"

    def __init__(self, host: str, host_port: int) -> None:
        self._behind = (host, host_port)
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._bell, self._ear = socket.socketpair()
        self._orders: list[Callable[[], None]] = []
        self._running = True
        self._up = True
        self._wires: list[_Wire] = []
        self._thread = threading.Thread(target=self._run, name="weak-network", daemon=True)
        self._thread.start()

    def __enter__(self) -> WeakNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Forward nothing, neither way, and say nothing about it. New connections get no answer either."""
        self._order(lambda: setattr(self, "_up", False))

    def restore(self) -> None:
        """Go on; what was sent meanwhile arrives."""
        self._order(lambda: setattr(self, "_up", True))

    def strand(self) -> None:
        """The connections there are become silent for ever; new ones work. As after a long sleep."""

        def strand() -> None:
            for wire in self._wires:
                wire.stranded = True

        self._order(strand)

    def close(self) -> None:
        if self._thread.is_alive():
            self._order(lambda: setattr(self, "_running", False))
            self._thread.join(TIMEOUT)
        for sock in (self._bell, self._ear, self._listener):
            sock.close()

    def _order(self, order: Callable[[], None]) -> None:
        """Have it done in the thread; returns when it is."""
        done = threading.Event()
        self._orders += [order, done.set]
        self._bell.send(b"!")
        if not done.wait(TIMEOUT):
            raise TimeoutError("the weak network does not obey")

    # --- the thread

    def _run(self) -> None:
        try:
            while self._running:
                self._turn()
        finally:
            for wire in self._wires:
                wire.close()

    def _turn(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            if self._up:
                selector.register(self._listener, selectors.EVENT_READ)
                for wire in self._wires:
                    for end, events in wire.interests().items() if not wire.stranded else ():
                        selector.register(end, events, wire)
            ready = selector.select()
        over = []
        for key, events in ready:
            if key.fileobj is self._ear:
                self._ear.recv(1)
                self._orders.pop(0)()
                self._orders.pop(0)()
            elif key.fileobj is self._listener:
                self._accept()
            elif not key.data.serve(key.fileobj, events):
                over.append(key.data)
        for wire in dict.fromkeys(over):
            wire.close()
            self._wires.remove(wire)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            host = socket.create_connection(self._behind, timeout=TIMEOUT)
        except OSError:
            client.close()
            return
        for end in (client, host):
            end.setblocking(False)
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wires.append(_Wire(client, host))
