"""Keeps threads free for what must always answer.

Requests that wait for a host share a limit below the number of worker threads, so that status,
stop and health find a thread however many hosts hang.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from runicorn_remote.api.base import services
from runicorn_remote.errors import Busy

P = ParamSpec("P")
R = TypeVar("R")


def slow(view: Callable[P, R]) -> Callable[P, R]:
    """Mark a view that waits for a remote host. Over the limit it answers 503 with `Retry-After`."""

    @wraps(view)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        places = services().slow_requests
        if not places.acquire(blocking=False):
            raise Busy("The server is waiting for too many hosts at once", code="TOO_MANY_SLOW_REQUESTS")
        try:
            with services().metrics.slow_requests.track_inprogress():
                return view(*args, **kwargs)
        finally:
            places.release()

    return limited
