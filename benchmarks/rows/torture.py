"""Rough clients of the tunnel, and who survives them.

Survived means: afterwards the same SSH connection still gives a right answer through the same tunnel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks.figures import Measures, Outcome, Table, Trial
from benchmarks.machine import is_alive
from benchmarks.part import Part
from benchmarks.stage import Forward, Stage
from benchmarks.torture import answers_right
from tests.hosts.sshd import SshServer

OURS, SSH = "ours", "ssh -L"
_LOGIN = "Accepted publickey"


@dataclass(frozen=True)
class _Treatment:
    kind: str  # of `benchmarks.torture`
    name: str
    full: int  # its count
    quick: int


_TREATMENTS = (
    _Treatment("client-ends-first", "half closes, the client first; 1 MiB up, then its SHA-256", 20, 5),
    _Treatment("server-ends-first", "half closes, the server first; then 1 MiB up", 20, 5),
    _Treatment("uploads-cut-off", "closes and resets in mid-upload", 300, 100),
    _Treatment("churn", "connections of one request each, 16 at once", 1000, 300),
    _Treatment("downloads-reset", "resets in mid-download", 100, 30),
    _Treatment("stopped-readers", "requests beside 8 stopped readers, which read on later", 100, 30),
)


def measure(stage: Stage) -> Iterator[Part]:
    host = stage.host()
    contestants = {OURS: _Contestant(host, partial(stage.our_tunnel, host))}
    far = contestants[OURS].way.far or stage.far_end()
    contestants[SSH] = _Contestant(host, partial(stage.forward, host, far))
    for treatment in _TREATMENTS:
        yield treatment.name, partial(_trial, stage, contestants, treatment)


class _Contestant:
    def __init__(self, host: SshServer, make: Callable[[], Forward]) -> None:
        self._host = host
        self._make = make
        self.way = make()

    def suffer(self, treatment: _Treatment, count: int) -> Measures:
        if self.way.pid is None or not is_alive(self.way.pid):  # it did not survive the one before
            self.way = self._make()
        logins = self._host.log().count(_LOGIN)
        began = time.perf_counter()
        measures = dict(self.way.load(treatment.kind, count, module="torture"))
        seconds = time.perf_counter() - began
        served = answers_right(self.way.port) and self._host.log().count(_LOGIN) == logins
        return {**measures, "survived": float(served), "seconds": seconds}


def _trial(stage: Stage, contestants: dict[str, _Contestant], treatment: _Treatment) -> list[Trial]:
    count = stage.amount(treatment.full, treatment.quick)
    runs = {who: partial(each.suffer, treatment, count) for who, each in contestants.items()}
    table = stage.interleave(runs, 2, 1, seconds=14)
    outcomes = {who: _outcome(table, who) for who in contestants}
    return [Trial(f"{count} {treatment.name}", outcomes, OURS, table.column("seconds"))]


def _outcome(table: Table, who: str) -> Outcome:
    def total(measure: str) -> int:
        return int(sum(table.column(measure).get(who, ())))

    survived = table.column("survived").get(who, ())
    return Outcome(
        right=total("right"),
        of=total("of"),
        damaged=total("damaged"),
        survived=bool(survived) and all(survived),
        failed=table.failed.get(who, ""),
    )
