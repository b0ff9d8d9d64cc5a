"""Hours in minutes: traffic, faults, starts and stops at once, and a server that must not grow.

    python -m tests.faults.soak --minutes 30

A round is one fault, one viewer more and one less, one connection of a user, all under traffic. At its
end the traffic pauses and the server is measured: memory, threads, descriptors. The second quarter of
the time is what the last quarter is compared with; the first is for warming up.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.faults import faults
from tests.faults.run import describe_machine, put_into, say
from tests.faults.stage import LONGEST, Stage, own_home
from tests.hosts import processes
from tests.hosts.server import fetch
from tests.hosts.waiting import until

TRAFFIC_THREADS = 4
# What may be more at the end than in the second quarter.
MORE_MEMORY, MORE_THREADS, MORE_DESCRIPTORS = 0.05, 2, 4
_PAGES = ("/api/health", "/api/runs", "/")
# So that rounds are short; the fault table is measured with the defaults.
_IMPATIENT = {"HEARTBEAT_INTERVAL": "1", "HEALTH_TIMEOUT": "1", "PROBE_TIMEOUT": "1", "BANNER_TIMEOUT": "3"}
_ROUND = (
    faults.kill_sessions,
    faults.kill_viewer,
    faults.cut_network,
    faults.restart_host,
    faults.freeze_viewer,
    faults.freeze_host,
)
_TIMES = faults.Times(freeze=3.0, cut=3.0, restart=1.0)


@dataclass(frozen=True)
class Sample:
    """`at` in seconds since the begin, `memory` in MiB (resident)."""

    at: float
    memory: float
    threads: int
    descriptors: int


class Traffic:
    """Users who open pages of whatever viewer there is, and try again when it fails."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._going = threading.Event()
        self._over = threading.Event()
        self._idle = [threading.Event() for _ in range(TRAFFIC_THREADS)]
        self.answered = 0
        self.failed = 0
        self._threads = [
            threading.Thread(target=self._browse, args=(idle,), name=f"traffic-{number}", daemon=True)
            for number, idle in enumerate(self._idle)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        self._going.set()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._going.set()
        for thread in self._threads:
            thread.join(LONGEST)

    def pause(self) -> None:
        """Returns when no request is under way."""
        self._going.clear()
        for idle in self._idle:
            idle.clear()
        for idle in self._idle:
            idle.wait(LONGEST)

    def go_on(self) -> None:
        self._going.set()

    def _browse(self, idle: threading.Event) -> None:
        choose = random.Random()
        while not self._over.is_set():
            if not self._going.wait(0.05):
                idle.set()
                continue
            session = choose.choice(list(self._stage.before.values()))
            page = choose.choice(_PAGES)
            try:
                answer = fetch(f"http://127.0.0.1:{session['localPort']}{page}", timeout=8.0)
                self.answered += answer.status_code < 500
            except requests.RequestException:
                self.failed += 1
                self._over.wait(0.1)


@dataclass
class Soak:
    """What one run was."""

    samples: list[Sample]
    rounds: int
    starts: int
    answered: int
    failed: int
    minutes: float

    def quarter(self, number: int) -> list[Sample]:
        """The samples of the time's quarter 0 to 3."""
        length = self.minutes * 60 / 4
        return [sample for sample in self.samples if number * length <= sample.at < (number + 1) * length]

    def growth(self) -> list[str]:
        """What is not flat. Empty is right."""
        before, after = self.quarter(1), self.quarter(3)
        if len(before) < 2 or len(after) < 2:
            return ["too few samples to tell; run for longer"]
        limits: dict[str, Callable[[float], float]] = {
            "memory": lambda amount: amount * (1 + MORE_MEMORY),
            "threads": lambda amount: amount + MORE_THREADS,
            "descriptors": lambda amount: amount + MORE_DESCRIPTORS,
        }
        grown = []
        for name, limit in limits.items():
            first, last = median(before, name), median(after, name)
            if last > limit(first):
                grown.append(f"{name}: {first:.1f} -> {last:.1f}")
        return grown

    def table(self) -> str:
        rows = ["| quarter | resident MiB, median | threads | descriptors |", "|---|---|---|---|"]
        for number in range(4):
            part = self.quarter(number)
            if part:
                memory, threads, descriptors = (
                    median(part, name) for name in ("memory", "threads", "descriptors")
                )
                rows.append(f"| {number + 1} | {memory:.1f} | {threads:g} | {descriptors:g} |")
        return "\n".join(rows)

    def sentence(self) -> str:
        return (
            f"{describe_machine()}; **{self.minutes:.0f} minutes**. {self.rounds} faults, "
            f"{self.starts} more viewers started and stopped, {self.answered} requests answered, "
            f"{self.failed} failed while a fault lasted, {len(self.samples)} samples."
        )


def run(stage: Stage, minutes: float) -> Soak:
    began = time.monotonic()
    soak = Soak([], 0, 0, 0, 0, minutes)
    with Traffic(stage) as traffic:
        for strike in itertools.cycle(_ROUND):
            if time.monotonic() - began >= minutes * 60:
                break
            strike(stage, soak.rounds, _TIMES)
            soak.rounds += 1
            extra = stage.add_viewer()
            stage.user.connect()
            stage.user.disconnect()
            stage.stop_viewer(extra)
            soak.starts += 1
            traffic.pause()
            until(lambda: is_quiet(stage), LONGEST, "all connections are closed")
            sample = measure(stage.server.pid, time.monotonic() - began)
            soak.samples.append(sample)
            say(f"{strike.__name__}: {sample}")
            traffic.go_on()
    soak.answered, soak.failed = traffic.answered, traffic.failed
    return soak


def median(samples: list[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def is_quiet(stage: Stage) -> bool:
    shown = stage.shown().values()
    return all(
        session["status"] == "running" and session["tunnel"]["openConnections"] == 0 for session in shown
    )


def measure(pid: int, at: float) -> Sample:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(at, pages * 4096 / 2**20, processes.thread_count(pid), len(processes.descriptors(pid)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--viewers", type=int, default=5)
    parser.add_argument("--markdown", type=Path, metavar="PAGE")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="soak-home-") as home,
        own_home(Path(home)),
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        Stage(Path(directory), faults.RELAY, viewers=given.viewers, settings=_IMPATIENT) as stage,
    ):
        soak = run(stage, given.minutes)
        stage.end_all()
        problems = soak.growth() + stage.left_behind()
    text = f"{soak.sentence()}\n\n{soak.table()}"
    print(text)
    for problem in problems:
        print(problem, file=sys.stderr)
    if given.markdown:
        put_into(given.markdown, text, "soak")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
