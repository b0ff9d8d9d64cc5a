"""Starts viewers again that crashed: on the same remote port, a few times. One that ended itself when idle
is not started again."""

from __future__ import annotations

import logging

from runicorn_remote.errors import (
    Busy,
    LinkLost,
    RemoteError,
    Unreachable,
    ViewerExited,
    ViewerStartFailed,
)
from runicorn_remote.services.launcher import ProcessState
from runicorn_remote.services.reconnect_attempt import is_loss
from runicorn_remote.services.reconnecting import Reconnector
from runicorn_remote.services.reports import Report
from runicorn_remote.services.session_fields import ERROR, STOPPED
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.start_up import StartUp
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings

logger = logging.getLogger(__name__)


class Restarter:
    """Starts the threads `restart-<session>`. May be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        registry: SessionRegistry,
        holdings: SessionHoldings,
        start_up: StartUp,
        reconnector: Reconnector,
        threads: ThreadGroup,
        report: Report,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._holdings = holdings
        self._start_up = start_up
        self._reconnector = reconnector
        self._threads = threads
        self._report = report

    def process_gone(self, session: ViewerSession, state: ProcessState) -> None:
        """The viewer's process has ended. Idle: that is its end. A crash: start it again, a few times."""
        session.keep_log(state.log_tail)
        if state.idle_exit:
            if session.end(STOPPED, "The viewer ended itself after a time without requests", "IDLE_EXIT"):
                logger.info("Session %s: the viewer ended itself when idle", session.id)
                self._report.on(session, "viewer.ended", "IDLE_EXIT")
                self._holdings.release(session)
            return
        tail = "\nLast lines of its log:\n" + "\n".join(state.log_tail) if state.log_tail else ""
        error = f"The viewer's process ended unexpectedly{tail}"
        again = session.crashed(
            error,
            limit=self._settings.max_restarts,
            within=self._settings.restart_window,
            process=state.process,
        )
        if again:
            logger.warning(
                "Session %s on %s: the viewer crashed; starting it again", session.id, session.target
            )
            self._report.on(session, "viewer.crashed", "VIEWER_RESTARTING")
            if session.tunnel is not None:
                session.tunnel.detach()
            self._start_restart(session)
        elif again is False and session.end(ERROR, error, "VIEWER_CRASHED"):
            logger.error("Session %s on %s: the viewer crashed", session.id, session.target)
            self._report.on(session, "viewer.crashed", "VIEWER_CRASHED")
            self._holdings.release(session)

    def _start_restart(self, session: ViewerSession) -> None:
        if not self._threads.start(f"restart-{session.id}", self._restart, session):
            session.restart_failed()
            session.restart_over.set()

    def _restart(self, session: ViewerSession) -> None:
        exited = None
        try:
            self._launch_again(session)
        except ViewerExited as error:
            session.restart_failed(again=False)
            exited = ProcessState(False, False, error.log_tail)
        finally:
            session.restart_over.set()
        self._registry.remember()
        if exited is not None:  # another crash, which counts; the next attempt may fare better
            self.process_gone(session, exited)

    def _launch_again(self, session: ViewerSession) -> None:
        """Raises `ViewerExited`; the session learns of every other failure."""
        try:
            self._start_up.launch_again(session)
        except ViewerExited:
            raise
        except (LinkLost, Unreachable, Busy) as error:
            session.restart_failed()
            if session.host is not None and is_loss(error):
                self._reconnector.link_lost(session.host, error)
            self._reconnector.begin(session.target)
        except RemoteError as error:
            reason = error.reason if isinstance(error, ViewerStartFailed) else str(error)
            if session.end(ERROR, f"The viewer crashed and could not be started again: {reason}", error.code):
                logger.error("Session %s on %s: no restart: %s", session.id, session.target, reason)
                self._report.on(session, "viewer.restarted", error.code)
                self._holdings.release(session)
        else:
            logger.info("Session %s on %s: the viewer runs again", session.id, session.target)
            self._report.on(session, "viewer.restarted")
