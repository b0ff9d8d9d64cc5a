"""Starts that nobody waits for: each runs in a thread of its own, and its session tells how it goes."""

from __future__ import annotations

import logging
import threading
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import Busy, RemoteError, StartCancelled
from runicorn_remote.services.connections import Login
from runicorn_remote.services.reports import Report
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.services.viewers import Viewers

logger = logging.getLogger(__name__)


class StartJobs:
    """Owns the threads `start-<session>`. May be called from any thread.

    At most `limit` run at a time: hosts that hang cost nothing but these. A thread ends at the deadlines
    of the login and of the launch, soon after its session is cancelled, or when the pool is closed.
    """

    def __init__(self, viewers: Viewers, clock: Clock, report: Report, *, limit: int) -> None:
        self._viewers = viewers
        self._report = report
        self._places = threading.BoundedSemaphore(limit)
        self._threads = ThreadGroup(clock)

    def begin(self, login: Login, **request: Any) -> ViewerSession:
        """Reserve a session, and start its viewer in the background; takes what `Viewers.start` takes.

        Raises what `Viewers.reserve` raises, and `Busy` over the limit. What goes wrong afterwards ends
        as the session's `error`, `errorCode` and `errorDetail`.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("Too many viewers are being started at once", code="TOO_MANY_SLOW_REQUESTS")
        try:
            session = self._viewers.reserve(login, **request)
        except BaseException:
            self._places.release()
            raise
        if not self._threads.start(f"start-{session.id}", self._run, session, login):
            session.cancelled.set()  # it is over before it began
            self._run(session, login)
            raise Busy("No thread can be started", code="TOO_MANY_SLOW_REQUESTS")
        return session

    def join(self, deadline: float) -> None:
        """Wait up to `deadline` seconds for the threads. The viewers are closed before: that cancels them."""
        self._threads.join(deadline)

    def _run(self, session: ViewerSession, login: Login) -> None:
        result = "INTERNAL_ERROR"
        try:
            self._viewers.run_start(session, login, keep_failed=True)
            result = "ok"
        except StartCancelled as error:
            result = error.code
            logger.info("The start of session %s on %s was cancelled", session.id, session.target)
        except RemoteError as error:
            result = error.code
            logger.warning("Session %s on %s: %s: %s", session.id, session.target, error.code, error)
        except Exception:
            logger.exception("Session %s on %s: the start failed unexpectedly", session.id, session.target)
        finally:
            self._places.release()
            self._report.on(session, "viewer.started", result)
