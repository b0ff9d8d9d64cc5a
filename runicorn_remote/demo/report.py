"""What the demo prints: one line a step, with the time it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class DemoFailed(Exception):
    """The demo cannot go on. The message is for whoever started it."""


class Step:
    """A step under way; set `detail` to what came of it."""

    detail = ""


class Report:
    """Prints to stdout. Used by the main thread only."""

    def title(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time what happens inside, then print it; also if it raises."""
        step = Step()
        started = time.monotonic()
        try:
            yield step
        except BaseException:
            self._line(name, started, "did not succeed")
            raise
        self._line(name, started, step.detail)

    def _line(self, name: str, started: float, detail: str) -> None:
        milliseconds = (time.monotonic() - started) * 1000
        print(f"  {name:<29}{milliseconds:>7.0f} ms   {detail}".rstrip(), flush=True)
