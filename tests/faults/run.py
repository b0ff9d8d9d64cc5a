"""The long version of the fault suite, and its table.

    python -m tests.faults.run --tries 10 --viewers 20 --markdown docs/reliability.md

With `--markdown` the table replaces what stands between the markers of that page.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.faults import FAULTS, Fault, Outcome, Times
from tests.faults.stage import Stage, own_home

# What was measured stands between these on a page.
BEGIN, END = "<!-- begin: measured by tests.faults.{} -->", "<!-- end -->"


@dataclass
class Result:
    fault: Fault
    viewers: int
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def tries(self) -> int:
        return len(self.outcomes) + len(self.failures)

    @property
    def is_good(self) -> bool:
        return not self.failures and not self.left and not self.late

    @property
    def late(self) -> list[str]:
        """Recoveries, and detections, over the limit this fault has."""
        limits = (("recovered", self.fault.within), ("noticed", self.fault.noticed_within))
        return [
            f"{name} after {seconds:.1f} s"
            for name, limit in limits
            for outcome in self.outcomes
            if limit is not None and (seconds := getattr(outcome, name)) is not None and seconds > limit
        ]


def attempt(fault: Fault, *, tries: int, viewers: int, times: Times) -> Result:
    """One fault on a stage of its own, again and again, and what was left at the end."""
    result = Result(fault, viewers, skipped=fault.why_not())
    if result.skipped:
        return result
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as directory,
        Stage(Path(directory), fault.setting, viewers=viewers) as stage,
    ):
        for number in range(tries):
            try:
                outcome = fault.strike(stage, number, times)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # what pytest raises is no Exception
                result.failures.append(f"try {number + 1}: {error}")
                say(f"{fault.name}: {traceback.format_exc()}\n{stage.server.output()[-8000:]}")
                return result
            result.outcomes.append(outcome)
            noticed = "" if outcome.noticed is None else f", noticed after {outcome.noticed:.2f} s"
            say(f"{fault.name} {number + 1}/{tries}: {outcome.recovered:.2f} s{noticed}")
        stage.end_all()
        result.left = stage.left_behind()
    return result


def table(results: Iterable[Result]) -> str:
    rows = [
        "| fault | viewers | tries | recovered | median | worst | noticed after | left behind |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        if result.skipped:
            rows.append(f"| {result.fault.name} | – | 0 | – | – | – | – | not tried: {result.skipped} |")
            continue
        seconds = [outcome.recovered for outcome in result.outcomes]
        noticed = [outcome.noticed for outcome in result.outcomes if outcome.noticed is not None]
        left = ", ".join(result.left) or ("nothing" if not result.failures else "?")
        cells = [
            result.fault.name,
            str(result.viewers),
            str(result.tries),
            str(len(result.outcomes)),
            f"{statistics.median(seconds):.1f} s" if seconds else "–",
            f"{max(seconds):.1f} s" if seconds else "–",
            f"{statistics.median(noticed):.1f} s, worst {max(noticed):.1f} s" if noticed else "",
            left,
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def describe_machine() -> str:
    sshd = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.split(",")[0]
    system = f"{platform.system()} {platform.release().split('-')[0]}, {os.cpu_count()} processors"
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{day}, {system}, Python {platform.python_version()}, {sshd}"


def describe_run(times: Times, minutes: float, jobs: int) -> str:
    at_a_time = "one fault" if jobs == 1 else f"{jobs} faults"
    return (
        f"{describe_machine()}; {minutes:.0f} minutes, {at_a_time} at a time, each on a host of its own. "
        f"sshd frozen for {times.freeze:g} s, the network silent for {times.cut:g} s, "
        f"sshd away for {times.restart:g} s."
    )


def put_into(page: Path, text: str, measured_by: str) -> None:
    """Replace what stands between the markers."""
    begin = BEGIN.format(measured_by)
    before, rest = page.read_text("utf-8").split(begin)
    _, after = rest.split(END, 1)
    page.write_text(f"{before}{begin}\n{text}\n{END}{after}", "utf-8")


_saying = threading.Lock()


def say(text: str) -> None:
    with _saying:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.run", description=__doc__.split("\n")[0])
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=20, help="on the host, during each fault")
    parser.add_argument("--freeze", type=float, default=Times.freeze, help="seconds that sshd is frozen")
    parser.add_argument("--cut", type=float, default=Times.cut, help="seconds that the network is silent")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time, each on a host of its own")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="may be given again")
    parser.add_argument("--markdown", type=Path, metavar="PAGE")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if not given.only or fault.name in given.only]
    times, began = Times(freeze=given.freeze, cut=given.cut), time.monotonic()

    def work(fault: Fault) -> Result:
        return attempt(fault, tries=given.tries, viewers=given.viewers, times=times)

    with (
        tempfile.TemporaryDirectory(prefix="faults-home-") as home,
        own_home(Path(home)),
        ThreadPoolExecutor(given.jobs, thread_name_prefix="fault") as executor,
    ):
        results = list(executor.map(work, chosen))
    text = f"{describe_run(times, (time.monotonic() - began) / 60, given.jobs)}\n\n{table(results)}"
    print(text)
    for result in results:
        for problem in (*result.failures, *result.left, *result.late):
            print(f"{result.fault.name}: {problem}", file=sys.stderr)
    if given.markdown:
        put_into(given.markdown, text, "run")
    return 0 if all(result.is_good or result.skipped for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
