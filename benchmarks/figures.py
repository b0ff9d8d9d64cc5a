"""Contestants round by round, and what is made of their figures: rows, curves and trials.

Every figure is a median. A ratio is taken within each round, between runs that were seconds apart,
and its median is reported: a machine that is busy for a while is busy for all contestants.
"""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

Measures = Mapping[str, float]
_SHORT = 200
_NEAR = 0.15  # how far an exponent may be from that of a word


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
    """One line of the table. `values`: contestant -> one value a round; `failed`: contestant -> why."""

    name: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    ours: str = ""
    against: str = ""
    bar: Bar | None = None
    note: str = ""
    skipped: str = ""
    failed: dict[str, str] = field(default_factory=dict)

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
            "failed": self.failed,
        }


@dataclass
class Curve:
    """How something of ours grows. `points`: how many -> one value a measurement."""

    name: str
    unit: str
    points: dict[int, list[float]]
    note: str = ""
    fitted_from: int = 1  # smaller numbers are shown, and not fitted

    @property
    def exponent(self) -> float | None:
        """a of value = c · number^a: the slope of a straight line through the logarithms, least squares.

        None with fewer than two points that have a logarithm.
        """
        medians = [(number, statistics.median(values)) for number, values in self.points.items() if values]
        fitted = [(number, value) for number, value in medians if number >= self.fitted_from and value > 0]
        logs = [(math.log(number), math.log(value)) for number, value in fitted]
        if len(logs) < 2:
            return None
        numbers, values = zip(*logs, strict=True)
        return statistics.linear_regression(numbers, values).slope

    @property
    def word(self) -> str:
        """What the curve is."""
        exponent = self.exponent
        if exponent is None:
            values = {value for values in self.points.values() for value in values}
            return "constant" if len(values) == 1 else ""
        if abs(exponent) <= _NEAR:
            return "constant"
        if abs(exponent - 1) <= _NEAR:
            return "linear"
        if exponent < 0:
            return "falls"
        return "slower than linear" if exponent < 1 else "faster than linear"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "points": self.points,
            "exponent": self.exponent,
            "fitted_from": self.fitted_from,
            "curve": self.word,
            "note": self.note,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of one contestant in a trial, all rounds together."""

    right: int  # requests that got the right answer
    of: int
    damaged: int  # transfers with other bytes than were sent
    survived: bool  # afterwards the same SSH connection and tunnel gave a right answer
    failed: str = ""

    @property
    def is_unharmed(self) -> bool:
        return self.survived and self.right == self.of > 0 and not self.damaged and not self.failed


@dataclass
class Trial:
    """Rough treatment: who survives it. `seconds`: contestant -> one value a round."""

    name: str
    outcomes: dict[str, Outcome]
    ours: str
    seconds: dict[str, list[float]]
    note: str = ""

    @property
    def reached(self) -> bool:
        return self.ours in self.outcomes and self.outcomes[self.ours].is_unharmed

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "outcomes": {who: vars(outcome) for who, outcome in self.outcomes.items()},
            "ours": self.ours,
            "seconds": self.seconds,
            "reached": self.reached,
            "note": self.note,
        }


Result = Union[Row, Curve, Trial]  # noqa: UP007  a name at run time, also in Python 3.10


class Table:
    """What `interleave` measured."""

    def __init__(self, names: Sequence[str]) -> None:
        self._values: dict[str, dict[str, list[float]]] = {name: {} for name in names}
        self.failed: dict[str, str] = {}  # contestant -> why it was left out from then on

    def add(self, name: str, measures: Measures) -> None:
        for measure, value in measures.items():
            self._values[name].setdefault(measure, []).append(value)

    def column(self, measure: str) -> dict[str, list[float]]:
        """One measure of all contestants that have it: contestant -> one value a round."""
        return {who: measures[measure] for who, measures in self._values.items() if measure in measures}

    def row(
        self,
        measure: str,
        name: str,
        unit: str,
        ours: str,
        against: str = "",
        bar: Bar | None = None,
        note: str = "",
        only: Sequence[str] = (),
    ) -> Row:
        """A row of one measure; of `only` these contestants, if any are named."""
        values = {who: found for who, found in self.column(measure).items() if not only or who in only}
        failed = {who: why for who, why in self.failed.items() if not only or who in only}
        return Row(name, unit, values, ours, against, bar, note, failed=failed)


def interleave(
    contestants: Mapping[str, Callable[[], Measures]],
    rounds: int,
    *,
    warm_up: bool = True,
    seconds: float = math.inf,
) -> Table:
    """Run everybody once a round, in an order that moves on by one each round.

    One that raises is left out from then on, and the others go on. No round begins that would probably
    end after `seconds`, but for the first.
    """
    names = list(contestants)
    table = Table(names)
    began = time.monotonic()

    def run(name: str) -> Measures:
        if name in table.failed:
            return {}
        try:
            return contestants[name]()
        except Exception as error:
            traceback.print_exc()
            table.failed[name] = reason(error)
            return {}

    if warm_up:
        for name in names:
            run(name)
    for number in range(rounds):
        done = number + warm_up
        if number and (time.monotonic() - began) * (done + 1) / done > seconds:
            break
        start = number % len(names)
        for name in names[start:] + names[:start]:
            table.add(name, run(name))
    return table


def reason(error: Exception) -> str:
    """Short enough for a note; the end of a long text says why."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= _SHORT else '…' + text[-_SHORT:]}"


def timed(action: Callable[[], object]) -> Measures:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return {"seconds": time.perf_counter() - began}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]
