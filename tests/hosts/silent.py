"""A host that accepts connections and never gets anywhere with them."""

from __future__ import annotations

import socket

ACCEPT_TIMEOUT = 20.0


class SilentHost:
    """Listens on 127.0.0.1 until `close`, which also ends the connections it accepted.

    With a `banner` it says that much before it falls silent.
    """

    host = "127.0.0.1"

    def __init__(self, banner: bytes = b"") -> None:
        self._banner = banner
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self._listener.settimeout(ACCEPT_TIMEOUT)
        self._accepted: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> SilentHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def accept(self, number: int) -> None:
        """Wait until so many more have connected. Raises TimeoutError."""
        for _ in range(number):
            sock, _ = self._listener.accept()
            self._accepted.append(sock)
            sock.sendall(self._banner)

    def close(self) -> None:
        for sock in (self._listener, *self._accepted):
            sock.close()
