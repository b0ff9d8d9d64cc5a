"""Things that may last only so long, all equally long."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Deadlines(Generic[Item]):
    """Items with one time-out, in seconds. For one thread."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._ends: dict[Item, float] = {}  # in the order of adding, which is that of the deadlines

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, item: Item) -> bool:
        return item in self._ends

    def add(self, item: Item) -> None:
        self._ends[item] = time.monotonic() + self._timeout

    def discard(self, item: Item) -> None:
        self._ends.pop(item, None)

    def take_all(self) -> list[Item]:
        items = list(self._ends)
        self._ends.clear()
        return items

    def take_expired(self, now: float) -> list[Item]:
        items = []
        for item, end in self._ends.items():
            if end > now:
                break
            items.append(item)
        for item in items:
            del self._ends[item]
        return items

    def earliest(self) -> float | None:
        """`time.monotonic()` of the next deadline."""
        return next(iter(self._ends.values()), None)
