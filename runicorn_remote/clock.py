"""Time, passed to whoever needs it, so that tests can advance it."""

from __future__ import annotations

import time


class Clock:
    """The real clock. May be called from any thread."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self.time() * 1000)
