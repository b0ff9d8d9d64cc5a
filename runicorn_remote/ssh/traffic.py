"""What went through a tunnel. Written by its threads, read by anybody without a lock."""

from __future__ import annotations

import threading
import time


class Traffic:
    """Counters in bytes and connections; `last_activity` is `time.monotonic()`."""

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.open_connections = 0
        self.total_connections = 0
        self.last_activity = time.monotonic()
        self._in_lock = threading.Lock()

    def opened(self) -> None:
        """A connection begins. Tunnel thread only."""
        self.total_connections += 1
        self.open_connections += 1

    def closed(self) -> None:
        """A connection is over. Tunnel thread only."""
        self.open_connections -= 1

    def received(self, count: int) -> None:
        """`count` bytes went to local clients. Transport and tunnel thread, hence the lock."""
        with self._in_lock:
            self.bytes_in += count
        self.last_activity = time.monotonic()

    def sent(self, count: int) -> None:
        """`count` bytes of local clients went out. Tunnel thread only."""
        self.bytes_out += count
        self.last_activity = time.monotonic()
