"""Waiting for something that nothing announces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

_LOOK_AGAIN_AFTER = 0.02

Answer = TypeVar("Answer")


def until(condition: Callable[[], Answer], timeout: float, what: str | Callable[[], str]) -> Answer:
    """Ask until the answer is true, and return it. After `timeout` seconds the test fails with `what`."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (answer := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what if isinstance(what, str) else what()}")
        pause.wait(_LOOK_AGAIN_AFTER)
    return answer
