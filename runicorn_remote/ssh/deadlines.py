"""Things that may last only so long, all equally long."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Deadlines(Generic[Item]):
    """Items with one time-out, in seconds. For one thread."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self.ends: dict[Item, float] = {}  # in the order of adding, which is that of the deadlines

    def __len__(self) -> int:
        return len(self.ends)

    def __contains__(self, item: Item) -> bool:
        return item in self.ends

    def add(self, item: Item) -> None:
        self.ends[item] = time.monotonic() + self._timeout

    def discard(self, item: Item) -> None:
        self.ends.pop(item, None)

    def take_all(self) -> list[Item]:
        items = list(self.ends)
        self.ends.clear()
        return items

    def take_expired(self, now: float) -> list[Item]:
        items = []
        for item, end in self.ends.items():
            if end > now:
                break
            items.append(item)
        for item in items:
            del self.ends[item]
        return items


def earliest(kinds: Iterable[Deadlines[Any]]) -> float | None:
    """`time.monotonic()` of the next deadline of them all; None: there is none."""
    ends = [next(iter(kind.ends.values())) for kind in kinds if kind.ends]
    return min(ends) if ends else None
