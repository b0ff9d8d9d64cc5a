"""What has happened to one session, or one installation, for those who follow it."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

# How many events are kept for those who come late, or back.
KEPT = 64


@dataclass(frozen=True)
class Event:
    """`id` is unlike that of any other session and server. `kind`: `session`, `install`, at last `end`."""

    id: str
    kind: str
    data: dict[str, Any]


class SessionEvents:
    """Thread-safe. Its lock is held for moments; the session's may be held outside of it.

    An event has the whole state after a change. So whoever misses some lacks history, and nothing else.
    """

    def __init__(self) -> None:
        # Re-entrant: `wake` is called in a signal handler.
        self._changed = threading.Condition(threading.RLock())
        self._mark = secrets.token_hex(4)
        self._kept: deque[Event] = deque(maxlen=KEPT)
        self._told = 0
        self._ended = False

    def tell(self, data: dict[str, Any], kind: str = "session") -> None:
        """The session (or what else is followed) has changed. Nothing is told after the end."""
        self._add(kind, data)

    def end(self, data: dict[str, Any]) -> None:
        """There will be no other event. Only the first end counts."""
        self._add("end", data)

    def wake(self) -> None:
        """Have everybody look up from `wait`."""
        with self._changed:
            self._changed.notify_all()

    def place_after(self, event_id: str | None) -> int:
        """Where to go on for somebody who has seen this event; at the first one for everybody else."""
        mark, _, number = (event_id or "").rpartition("-")
        if mark != self._mark or not (number.isascii() and number.isdigit() and len(number) < 19):
            return 0
        return min(int(number), self._told)

    def wait(self, place: int, timeout: float) -> tuple[list[Event], int, bool]:
        """The events after `place`, or none after `timeout` seconds or a `wake`.

        -> events, the place after them, and whether they were the last ones.
        """
        with self._changed:
            if place >= self._told and not self._ended:
                self._changed.wait(timeout)
            missed = self._told - place
            events = list(self._kept)[-missed:] if missed > 0 else []
            return events, self._told, self._ended

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        with self._changed:
            if self._ended:
                return
            self._told += 1
            self._kept.append(Event(f"{self._mark}-{self._told}", kind, data))
            self._ended = kind == "end"
            self._changed.notify_all()
