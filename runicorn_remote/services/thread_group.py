"""The threads of one owner: named, kept track of, and waited for together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context

from runicorn_remote.clock import Clock

logger = logging.getLogger(__name__)


class ThreadGroup:
    """May be used from any thread. Its lock is never held while something is waited for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def start(self, name: str, work: Callable[..., None], *arguments: object) -> bool:
        """Do it in a thread of its own. False: there is none, as we are closed or have too many.

        What begins with a request has its id in the log. An error that `work` raises is logged, no more.
        """

        def run() -> None:
            try:
                work(*arguments)
            except Exception:
                logger.exception("%s ended by an unexpected error", name)
            finally:
                self._discard(threading.current_thread())

        thread = threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
        with self._lock:
            if self._closed:
                return False
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # too many; in an atexit handler, Python 3.12.0 and 3.12.1 start none
            logger.warning("%s: no thread can be started: %s", name, error)
            self._discard(thread)
            return False
        return True

    def close(self) -> None:
        """Start none any more."""
        with self._lock:
            self._closed = True

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for all that run."""
        until = self._clock.monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, until - self._clock.monotonic()))

    def _discard(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads.discard(thread)
