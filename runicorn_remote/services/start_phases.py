"""How far a viewer's start is, and what each step of it took."""

from __future__ import annotations

from typing import Any

from runicorn_remote.clock import Clock


class StartPhases:
    """The phases of the latest start, in order: `connecting`, `preparing`, `launching`, `waiting`, `ready`.

    Not thread-safe: the session's lock guards it.
    """

    READY = "ready"

    def __init__(self, clock: Clock, current: str = "connecting") -> None:
        """A session that an earlier server left is `ready`, and nobody knows what its start took."""
        self._clock = clock
        self._began = clock.monotonic()
        self.current = current
        # [{"name", "startedAt" (ms since the epoch), "seconds"}]; `seconds` is None while the phase lasts,
        # and for `ready`, which is no step but the end of them. Replaced, never changed: readers keep it.
        self.listed: list[dict[str, Any]] = []
        if current != self.READY:
            self._add(current)

    def begin(self, name: str) -> None:
        """The next phase; after `ready`, the first one of another start. The same again changes nothing."""
        if name == self.current:
            return
        if self.current == self.READY:
            self.listed = []
        self.end()
        self._add(name)

    def end(self) -> None:
        """The start is over, however; nothing is measured any more."""
        if self.listed and self.listed[-1]["seconds"] is None:
            seconds = round(self._clock.monotonic() - self._began, 3)
            self.listed = [*self.listed[:-1], {**self.listed[-1], "seconds": seconds}]

    def _add(self, name: str) -> None:
        self.current = name
        self._began = self._clock.monotonic()
        entry = {"name": name, "startedAt": self._clock.time_ms(), "seconds": None}
        self.listed = [*self.listed, entry]
