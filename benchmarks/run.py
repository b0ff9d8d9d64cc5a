"""`python -m benchmarks.run [--quick] [--only NAME]`: measure, print the table, write `benchmarks/results/`.

In ten minutes, `--quick` in three. Needs Linux, `ssh`, `sshd` and, for some rows, Runicorn 0.7.2 in
`.cache/runicorn-0.7.2`; `make bench` makes that first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Row
from benchmarks.rows import connect, environments, idle, knobs, status, tunnel, viewer
from benchmarks.stage import Stage

# The tunnel's churn of connections comes last: what the kernel keeps of them for a minute slows down
# whoever looks connections up, as our server does for each request.
SUBJECTS: dict[str, Callable[[Stage], list[Row]]] = {
    "connect": connect.measure,
    "viewer": viewer.measure,
    "environments": environments.measure,
    "status": status.measure,
    "idle": idle.measure,
    "knobs": knobs.measure,
    "tunnel-far": tunnel.measure_far,
    "tunnel": tunnel.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about three minutes")
    parser.add_argument("--only", action="append", choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    arguments = parser.parse_args()
    if sys.platform != "linux":
        print("these measurements read /proc, so they need Linux", file=sys.stderr)
        return 2
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    about = {**report.machine(), "command": " ".join(["python -m benchmarks.run", *sys.argv[1:]])}
    began = time.monotonic()
    rows: list[Row] = []
    for name, measure in SUBJECTS.items():
        if not arguments.only or name in arguments.only:
            rows += _measured(name, measure, quick=arguments.quick)
            about |= {"seconds": time.monotonic() - began, "load_after": os.getloadavg()[0]}
            written = report.write(rows, about)
    print(report.markdown(rows, about))
    print(f"written to {written}")
    return 1 if any(row.skipped.startswith("failed") for row in rows) else 0


def _measured(name: str, measure: Callable[[Stage], list[Row]], *, quick: bool) -> list[Row]:
    """One subject on a stage of its own; if it fails, the others are still measured."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        stage = Stage(Path(directory), quick=quick)
        try:
            rows = measure(stage)
        except Exception as error:
            traceback.print_exc()
            rows = [Row(name, "", skipped=f"failed: {type(error).__name__}: {str(error)[:200]}")]
        finally:
            stage.close()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
