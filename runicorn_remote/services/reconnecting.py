"""Brings the viewers of a lost link back: after a cut, and after a restart of this server.

One thread a host in trouble (`reconnect-<host>`), whatever the number of its viewers: it logs in
again and again, with growing pauses, for as long as a session wants it, and ends when all are back.
It stops by itself, and the sessions become `disconnected` with a code, when a person is needed: a
changed host key, credentials that are refused (asked once, never in a loop: sshd penalises that) or
that are not there. `POST /connect` resumes them.
"""

from __future__ import annotations

import logging
import random
import threading

from runicorn_remote.errors import LinkLost, LocalPortInUse, RemoteError
from runicorn_remote.services.reconnect_attempt import ReconnectAttempt
from runicorn_remote.services.reports import Report
from runicorn_remote.services.session_fields import DISCONNECTED, RECONNECTING
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target

logger = logging.getLogger(__name__)

# A pause is shorter than the planned one by up to this share, so that hosts do not come back in step.
_JITTER = 0.3


class Reconnector:
    """Starts the threads `reconnect-<host>`. May be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        registry: SessionRegistry,
        holdings: SessionHoldings,
        attempt: ReconnectAttempt,
        threads: ThreadGroup,
        report: Report,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._holdings = holdings
        self._attempt = attempt
        self._threads = threads
        self._report = report
        self._lock = threading.Lock()
        self._reconnecting: dict[Target, threading.Event] = {}
        self._closing = threading.Event()

    def link_lost(self, host: RemoteHost, error: LinkLost) -> None:
        """A connection is gone, or does not answer: detach all its viewers and bring them back."""
        lost = [
            session
            for session in self._registry.sessions()
            if session.host is host and session.lost(str(error), error.code)
        ]
        # Wakes everything that still waits for it; whatever it was, it is of no use any more.
        host.close()
        for session in lost:
            if session.tunnel is not None:
                session.tunnel.detach()
        if lost:
            logger.warning("%s: %s; %d viewers are waiting", host.target, error.reason, len(lost))
            self._report("link.lost", error.code, connection_id=host.target.connection_id, viewers=len(lost))
            self.begin(host.target)

    def begin(self, target: Target) -> None:
        """Reconnect the waiting sessions of this target: now, where an attempt is being waited for."""
        with self._lock:
            wake = self._reconnecting.get(target)
        if wake is not None:
            wake.set()
        self._ensure_reconnecting(target)

    def resume(self, target: Target, credentials: Credentials) -> None:
        """Somebody has logged in: the sessions that wait for credentials there can use these."""
        resumed = [
            session.id
            for session in self._registry.sessions()
            if session.target == target and session.resumed(credentials)
        ]
        if resumed:
            self.begin(target)

    def look_after(self) -> None:
        """What nothing announces, now and then: a local port that is free again, a thread that has died."""
        for session in self._registry.sessions():
            if (
                session.status == DISCONNECTED
                and session.error_code == LocalPortInUse.code
                and self._is_bindable(session)
            ):
                session.resumed()
            if session.status == RECONNECTING and not session.restarting:
                self._ensure_reconnecting(session.target)

    def hurry(self) -> None:
        """Try now instead of at the end of the pause: the network may be back (the machine woke up)."""
        with self._lock:
            for wake in self._reconnecting.values():
                wake.set()

    def stop(self) -> None:
        """Begin no attempt any more. What is under way ends with its current step."""
        self._closing.set()
        self.hurry()

    def _ensure_reconnecting(self, target: Target) -> None:
        with self._lock:
            if self._closing.is_set() or target in self._reconnecting:
                return
            self._reconnecting[target] = threading.Event()
        if not self._threads.start(f"reconnect-{target.host}", self._reconnect, target):
            with self._lock:
                self._reconnecting.pop(target, None)

    def _is_bindable(self, session: ViewerSession) -> bool:
        try:
            self._holdings.bind(session)
        except RemoteError:
            return False
        return True

    # --- in the threads

    def _reconnect(self, target: Target) -> None:
        with self._lock:
            wake = self._reconnecting[target]
        pause = self._settings.reconnect_first
        while not self._closing.is_set():
            wake.clear()
            waiting = self._waiting(target)
            if not waiting:
                with self._lock:
                    # Looked at again under the lock: `begin` may just have relied on us.
                    if not self._waiting(target):
                        del self._reconnecting[target]
                        return
                continue
            if not self._attempt_safely(waiting):
                wake.wait(pause * random.uniform(1 - _JITTER, 1))  # noqa: S311 - no secret
                pause = min(pause * 2, self._settings.reconnect_max)
        with self._lock:
            self._reconnecting.pop(target, None)

    def _attempt_safely(self, waiting: list[ViewerSession]) -> bool:
        try:
            return self._attempt.run(waiting)
        except Exception:
            logger.exception("%s: the attempt to reconnect stumbled; it goes on", waiting[0].target)
            return False

    def _waiting(self, target: Target) -> list[ViewerSession]:
        return [
            session
            for session in self._registry.sessions()
            if session.target == target and session.status == RECONNECTING and not session.restarting
        ]
