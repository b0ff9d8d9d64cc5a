"""Contestants round by round, and what is made of their figures.

Every figure is a median. A ratio is taken within each round, between runs that were seconds apart,
and its median is reported: a machine that is busy for a while is busy for all contestants.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Measures = Mapping[str, float]
Table = dict[str, dict[str, list[float]]]  # contestant -> measure -> one value a round


@dataclass(frozen=True)
class Bar:
    """What is to be reached, of the ratio unless said otherwise."""

    limit: float
    at_most: bool = True
    absolute: bool = False  # of our own value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"

    def is_reached(self, ratio: float | None, own: float | None) -> bool | None:
        value = own if self.absolute else ratio
        if value is None:
            return None
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass
class Row:
    """One line of the table. `values`: contestant -> one value a round."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    ours: str = ""
    against: str = ""
    bar: Bar | None = None
    note: str = ""
    skipped: str = ""

    def ratios(self) -> list[float]:
        pairs = zip(self.values.get(self.ours, ()), self.values.get(self.against, ()), strict=False)
        return [own / other for own, other in pairs if other]

    @property
    def ratio(self) -> float | None:
        found = self.ratios()
        return statistics.median(found) if found else None

    @property
    def reached(self) -> bool | None:
        own = self.values.get(self.ours)
        return self.bar.is_reached(self.ratio, statistics.median(own) if own else None) if self.bar else None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "values": self.values,
            "medians": {who: statistics.median(values) for who, values in self.values.items() if values},
            "ours": self.ours,
            "against": self.against,
            "ratio": self.ratio,
            "ratios": self.ratios(),
            "bar": str(self.bar) if self.bar else None,
            "reached": self.reached,
            "note": self.note,
            "skipped": self.skipped,
        }


def interleave(
    contestants: Mapping[str, Callable[[], Measures]], rounds: int, *, warm_up: bool = True
) -> Table:
    """Run everybody once a round, in an order that moves on by one each round."""
    names = list(contestants)
    table: Table = {name: {} for name in names}
    if warm_up:
        for name in names:
            contestants[name]()
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            for measure, value in contestants[name]().items():
                table[name].setdefault(measure, []).append(value)
    return table


def column(table: Table, measure: str) -> dict[str, list[float]]:
    """One measure of all contestants that have it."""
    return {who: measures[measure] for who, measures in table.items() if measure in measures}


def timed(action: Callable[[], object]) -> Measures:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return {"seconds": time.perf_counter() - began}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
