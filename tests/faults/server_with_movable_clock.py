"""The server, with a wall clock that a test can move: by the seconds in the file $TEST_CLOCK_MOVED_BY."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from runicorn_remote import cli
from runicorn_remote.clock import Clock


def _moved_time(clock: Clock) -> float:
    return time.time() + float(Path(os.environ["TEST_CLOCK_MOVED_BY"]).read_text() or 0)


if __name__ == "__main__":
    Clock.time = _moved_time  # type: ignore[method-assign]
    sys.exit(cli.main())
