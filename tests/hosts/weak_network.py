"""A network between a client and a host that fails without a word: a TCP relay that stops forwarding."""

from __future__ import annotations

import contextlib
import socket
import threading

JOIN_TIMEOUT = 10.0
_LOOK_AGAIN_AFTER = 0.5


class _Wire:
    """One connection through the relay."""

    def __init__(self, client: socket.socket, host: socket.socket) -> None:
        self.ends = (client, host)
        self.stranded = threading.Event()

    def close(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class WeakNetwork:
    """Listens on 127.0.0.1:`port` and forwards to `host`:`host_port` until `close`."""

    host = "127.0.0.1"

    def __init__(self, host: str, host_port: int) -> None:
        self._behind = (host, host_port)
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._up = threading.Event()
        self._up.set()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._wires: list[_Wire] = []
        self._threads: list[threading.Thread] = []
        self._start("weak-network", self._accept)

    def __enter__(self) -> WeakNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """Forward nothing, neither way, and say nothing about it. New connections get no answer either."""
        self._up.clear()

    def restore(self) -> None:
        """Go on; what was sent meanwhile arrives."""
        self._up.set()

    def strand(self) -> None:
        """The connections there are become silent for ever; new ones work. As after a long sleep."""
        with self._lock:
            for wire in self._wires:
                wire.stranded.set()

    def close(self) -> None:
        self._closed.set()
        self._up.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            wires, threads = list(self._wires), list(self._threads)
        for wire in wires:
            wire.close()
        for thread in threads:
            thread.join(JOIN_TIMEOUT)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._up.wait()
            try:
                host = socket.create_connection(self._behind, timeout=JOIN_TIMEOUT)
            except OSError:
                client.close()
                continue
            host.settimeout(None)
            wire = _Wire(client, host)
            with self._lock:
                self._wires.append(wire)
            self._start("weak-network-up", self._carry, wire, client, host)
            self._start("weak-network-down", self._carry, wire, host, client)

    def _carry(self, wire: _Wire, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._wait_until_up(wire)
                sink.sendall(data)
            self._wait_until_up(wire)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # A reset travels like everything else.
            self._wait_until_up(wire)
            wire.close()

    def _wait_until_up(self, wire: _Wire) -> None:
        self._up.wait()
        while wire.stranded.is_set() and not self._closed.wait(_LOOK_AGAIN_AFTER):
            pass

    def _start(self, name: str, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, name=name, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
            thread.start()
