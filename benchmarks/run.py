"""`python -m benchmarks.run [--quick] [--only NAME]`: measure, print tables, write `benchmarks/results/`.

In ten minutes, `--quick` in three; each subject has a budget, and rows that would exceed it get fewer
rounds. `hosts` does not fit in, and is measured only when asked for, by name or as part of `growth`.
Needs Linux, `ssh`, `sshd` and, for some rows, Runicorn 0.7.2 in `.cache/runicorn-0.7.2`; `make bench`
makes that first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Result, Row, reason
from benchmarks.part import Part
from benchmarks.rows import (
    connect,
    environments,
    hosts,
    idle,
    knobs,
    sessions,
    status,
    torture,
    tunnel,
    viewer,
)
from benchmarks.stage import Stage


@dataclass(frozen=True)
class Subject:
    """`seconds` and `quick`: its budget without and with `--quick`."""

    measure: Callable[[Stage], Iterator[Part]]
    seconds: float
    quick: float
    only_if_asked: bool = False


# The tunnel's churn of connections comes last: what the kernel keeps of them for a minute slows down
# whoever looks connections up.
SUBJECTS: dict[str, Subject] = {
    "connect": Subject(connect.measure, 35, 11),
    "viewer": Subject(viewer.measure, 55, 24),
    "environments": Subject(environments.measure, 45, 16),
    "status": Subject(status.measure, 20, 6),
    "sessions": Subject(sessions.measure, 115, 26),
    "idle": Subject(idle.measure, 15, 8),
    "hosts": Subject(hosts.measure, 120, 40, only_if_asked=True),
    "knobs": Subject(knobs.measure, 85, 24),
    "tunnel-far": Subject(tunnel.measure_far, 50, 15),
    "torture": Subject(torture.measure, 50, 16),
    "tunnel": Subject(tunnel.measure, 125, 30),
}
GROUPS = {"growth": ("environments", "idle", "hosts")}


def main() -> int:
    arguments = _arguments()
    if sys.platform != "linux":
        print("these measurements read /proc, so they need Linux", file=sys.stderr)
        return 2
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = {**report.machine(), "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]])}
    began = time.monotonic()
    results: list[Result] = []
    for name in _chosen(arguments.only):
        results += _measured(name, quick=arguments.quick, most_rounds=arguments.rounds)
        about |= {"seconds": time.monotonic() - began, "load_after": os.getloadavg()[0]}
        written = report.write(results, about, arguments.output)
    print(report.markdown(results, about))
    print(f"written to {written}")
    return 1 if any(report.failures(result) for result in results) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about three minutes")
    names = [*SUBJECTS, *GROUPS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--rounds", type=int, metavar="N", help="no more than so many")
    parser.add_argument("--output", type=Path, default=report.DIRECTORY, metavar="DIRECTORY")
    return parser.parse_args()


def _chosen(only: list[str] | None) -> list[str]:
    if not only:
        return [name for name, subject in SUBJECTS.items() if not subject.only_if_asked]
    wanted = {name for each in only for name in GROUPS.get(each, (each,))}
    return [name for name in SUBJECTS if name in wanted]


def _measured(name: str, *, quick: bool, most_rounds: int | None) -> list[Result]:
    """One subject on a stage of its own; what fails becomes a row that says so, the rest is measured."""
    subject = SUBJECTS[name]
    budget = subject.quick if quick else subject.seconds
    began = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        stage = Stage(Path(directory), quick=quick, seconds=budget, most_rounds=most_rounds)
        try:
            for part, measure in subject.measure(stage):
                _collect(part, measure, results)
        except Exception as error:
            results.append(_failed(name, error))
        finally:
            stage.close()
    print(f"{name}: {time.monotonic() - began:.0f} s of {budget:.0f}", file=sys.stderr, flush=True)
    return results


def _collect(part: str, measure: Callable[[], Iterable[Result]], results: list[Result]) -> None:
    try:
        for result in measure():
            results.append(result)
    except Exception as error:
        results.append(_failed(part, error))


def _failed(name: str, error: Exception) -> Row:
    traceback.print_exception(error)
    return Row(name, "", skipped=f"failed: {reason(error)}")


if __name__ == "__main__":
    sys.exit(main())
