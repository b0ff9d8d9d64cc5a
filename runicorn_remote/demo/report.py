"""What the demo prints: one line a step, with the time it took."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator


class DemoFailed(Exception):
    """The demo cannot go on. The message is for whoever started it."""


class Step:
    """A step under way; set `detail` to what came of it."""

    detail = ""


class Report:
    """Prints to stdout. Used by the main thread only.

    Nobody may be reading any more (a closed terminal, `| head`): clearing away goes on all the same.
    """

    def title(self, text: str) -> None:
        self.say(f"\n{text}")

    def say(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # What is still buffered would fail again when the interpreter exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

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
        self.say(f"  {name:<29}{milliseconds:>7.0f} ms   {detail}".rstrip())
