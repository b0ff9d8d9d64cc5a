"""Brings viewers back: after a lost link, after a crash of the viewer, after a restart of this server.

One thread a host in trouble (`reconnect-<host>`), whatever the number of its viewers: it logs in
again and again, with growing pauses, for as long as a session wants it, and ends when all are back.
It stops by itself, and the sessions become `disconnected` with a code, when a person is needed: a
changed host key, credentials that are refused (asked once, never in a loop: sshd penalises that) or
that are not there. `POST /connect` resumes them.

A viewer that crashed is started again on the same remote port, a few times; one that ended itself
when idle is not. Tunnels keep their local ports throughout.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeGuard

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    AuthenticationFailed,
    Busy,
    HostKeyConfirmationRequired,
    HostKeyRevoked,
    InvalidValue,
    LinkLost,
    LocalPortInUse,
    NoCommonAlgorithm,
    RemoteError,
    TargetForbidden,
    Unreachable,
    ViewerExited,
    ViewerStartFailed,
)
from runicorn_remote.services.launcher import Launcher, ProcessState
from runicorn_remote.services.reports import Report
from runicorn_remote.services.viewer_session import (
    DISCONNECTED,
    ERROR,
    RECONNECTING,
    STOPPED,
    ViewerSession,
)
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target

if TYPE_CHECKING:
    from runicorn_remote.services.viewers import Viewers

logger = logging.getLogger(__name__)

NEEDS_CREDENTIALS = "NEEDS_CREDENTIALS"
# A pause is shorter than the planned one by up to this share, so that hosts do not come back in step.
_JITTER = 0.3
# Failures that no waiting mends.
_REFUSED = (
    HostKeyConfirmationRequired,
    AuthenticationFailed,
    HostKeyRevoked,
    NoCommonAlgorithm,
    TargetForbidden,
)
_HOLDER = "recovery"


class Recovery:
    """Owns the threads `reconnect-…`, `restart-…` and `sweep-…`. May be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        viewers: Viewers,
        launcher: Launcher,
        *,
        reopen: Callable[[Target, Credentials, str], RemoteHost],
        release: Callable[[RemoteHost, str], None],
        server_id: Callable[[], str],
        report: Report,
    ) -> None:
        """`reopen` opens (or reuses) a connection; its last argument holds it until `release`."""
        self._settings = settings
        self._clock = clock
        self._viewers = viewers
        self._launcher = launcher
        self._reopen = reopen
        self._release = release
        self._server_id = server_id
        self._report = report
        self._lock = threading.Lock()
        self._reconnecting: dict[Target, threading.Event] = {}
        self._threads: set[threading.Thread] = set()
        self._closing = threading.Event()

    # --- what others notice

    def link_lost(self, host: RemoteHost, error: LinkLost) -> None:
        """A connection is gone, or does not answer: detach all its viewers and bring them back."""
        lost = [
            session
            for session in self._viewers.sessions()
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

    def process_gone(self, session: ViewerSession, state: ProcessState) -> None:
        """The viewer's process has ended. Idle: that is its end. A crash: start it again, a few times."""
        session.keep_log(state.log_tail)
        if state.idle_exit:
            if session.end(STOPPED, "The viewer ended itself after a time without requests", "IDLE_EXIT"):
                logger.info("Session %s: the viewer ended itself when idle", session.id)
                self._report_on(session, "viewer.ended", "IDLE_EXIT")
                self._viewers.release(session)
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
            self._report_on(session, "viewer.crashed", "VIEWER_RESTARTING")
            if session.tunnel is not None:
                session.tunnel.detach()
            self._start_restart(session)
        elif again is False and session.end(ERROR, error, "VIEWER_CRASHED"):
            logger.error("Session %s on %s: the viewer crashed", session.id, session.target)
            self._report_on(session, "viewer.crashed", "VIEWER_CRASHED")
            self._viewers.release(session)

    def opened(self, host: RemoteHost) -> None:
        """A new connection: look for viewers of ours that no session knows, out of the request's way."""
        self._run(f"sweep-{host.target.host}", self._sweep, host)

    def begin(self, target: Target) -> None:
        """Reconnect the waiting sessions of this target: now, where an attempt is being waited for."""
        with self._lock:
            wake = self._reconnecting.get(target)
        if wake is not None:
            wake.set()
        self._ensure_reconnecting(target)

    def _ensure_reconnecting(self, target: Target) -> None:
        with self._lock:
            if self._closing.is_set() or target in self._reconnecting:
                return
            self._reconnecting[target] = threading.Event()
        if not self._run(f"reconnect-{target.host}", self._reconnect, target):
            with self._lock:
                self._reconnecting.pop(target, None)

    def resume(self, target: Target, credentials: Credentials) -> None:
        """Somebody has logged in: the sessions that wait for credentials there can use these."""
        resumed = [
            session.id
            for session in self._viewers.sessions()
            if session.target == target and session.resumed(credentials)
        ]
        if resumed:
            self.begin(target)

    def look_after(self) -> None:
        """What nothing announces, now and then: a local port that is free again, a thread that has died."""
        for session in self._viewers.sessions():
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
        """Begin nothing any more. What is under way ends with its current step."""
        self._closing.set()
        self.hurry()

    def join(self, deadline: float) -> None:
        """After `stop`, wait up to `deadline` seconds for the threads."""
        until = self._clock.monotonic() + deadline
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, until - self._clock.monotonic()))

    # --- reconnecting

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
            return self._attempt(waiting)
        except Exception:
            logger.exception("%s: the attempt to reconnect stumbled; it goes on", waiting[0].target)
            return False

    def _waiting(self, target: Target) -> list[ViewerSession]:
        return [
            session
            for session in self._viewers.sessions()
            if session.target == target and session.status == RECONNECTING and not session.restarting
        ]

    def _attempt(self, waiting: list[ViewerSession]) -> bool:
        """One login for the first session and all that share its credentials. False: try again later."""
        credentials = waiting[0].credentials
        alike = [session for session in waiting if session.credentials == credentials and self._bind(session)]
        if not alike:
            return True
        if credentials is None:
            self._give_up(alike, None, "The credentials are not stored; connect to the host again")
            return True
        try:
            host = self._reopen(alike[0].target, credentials, _HOLDER)
        except _REFUSED as error:
            detail = error.detail if isinstance(error.detail, dict) else None
            self._give_up(alike, credentials, str(error), error.code, detail)
            return True
        except InvalidValue as error:  # the key file: it is gone, or wants a passphrase
            self._give_up(alike, credentials, str(error))
            return True
        except RemoteError as error:
            self._still_lost(alike, error)
            return False
        try:
            self._bring_back(host, alike)
        except RemoteError as error:
            logger.warning("%s: logged in, and got no answer about the viewers: %s", host.target, error)
            self._still_lost(alike, error)
            if _is_loss(error):
                self.link_lost(host, error)
            return False
        finally:
            self._release(host, _HOLDER)
        return True

    def _give_up(
        self,
        sessions: list[ViewerSession],
        tried: Credentials | None,
        reason: str,
        code: str = NEEDS_CREDENTIALS,
        detail: dict[str, Any] | None = None,
    ) -> None:
        for session in sessions:
            # Somebody may have brought others while these were tried.
            if session.credentials == tried and session.give_up(reason, code, detail):
                logger.warning("Session %s on %s waits for a person: %s", session.id, session.target, reason)
                self._report_on(session, "viewer.disconnected", code)
        self._viewers.remember()

    def _still_lost(self, sessions: list[ViewerSession], error: RemoteError) -> None:
        for session in sessions:
            session.still_lost(str(error), error.code)

    def _bind(self, session: ViewerSession) -> bool:
        """After a restart of this server the local port may be somebody else's."""
        try:
            self._viewers.bind(session)
        except RemoteError as error:
            session.give_up(str(error), error.code)
            return False
        return True

    def _is_bindable(self, session: ViewerSession) -> bool:
        try:
            self._viewers.bind(session)
        except RemoteError:
            return False
        return True

    def _bring_back(self, host: RemoteHost, sessions: list[ViewerSession]) -> None:
        """Ask for all processes at once, and attach those that live."""
        sessions = [session for session in sessions if self._viewers.hold(session, host)]
        if not sessions:
            return
        states = self._launcher.process_states(host, {session.id: session.process for session in sessions})
        for session in sessions:
            state = states[session.id]
            if not state.alive:
                self.process_gone(session, state)
            elif session.reconnected():
                process = session.process
                if process is not None and session.tunnel is not None:
                    session.tunnel.attach(host.transport, process.port)
                logger.info("Session %s on %s is back", session.id, session.target)
                self._report_on(session, "viewer.reconnected")
        self._viewers.remember()

    # --- restarting

    def _start_restart(self, session: ViewerSession) -> None:
        if not self._run(f"restart-{session.id}", self._restart, session):
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
        self._viewers.remember()
        if exited is not None:  # another crash, which counts; the next attempt may fare better
            self.process_gone(session, exited)

    def _launch_again(self, session: ViewerSession) -> None:
        """Raises `ViewerExited`; the session learns of every other failure."""
        try:
            self._viewers.launch_again(session)
        except ViewerExited:
            raise
        except (LinkLost, Unreachable, Busy) as error:
            session.restart_failed()
            if session.host is not None and _is_loss(error):
                self.link_lost(session.host, error)
            self.begin(session.target)
        except RemoteError as error:
            reason = error.reason if isinstance(error, ViewerStartFailed) else str(error)
            if session.end(ERROR, f"The viewer crashed and could not be started again: {reason}", error.code):
                logger.error("Session %s on %s: no restart: %s", session.id, session.target, reason)
                self._report_on(session, "viewer.restarted", error.code)
                self._viewers.release(session)
        else:
            logger.info("Session %s on %s: the viewer runs again", session.id, session.target)
            self._report_on(session, "viewer.restarted")

    # --- sweeping

    def _sweep(self, host: RemoteHost) -> None:
        try:
            found = self._launcher.viewers_of(host, self._server_id())
            # Looked at after the host was: a viewer that is being started has its session already.
            known = {session.id for session in self._viewers.sessions()}
            for session_id in found.keys() - known:
                self._launcher.stop(host, session_id, found[session_id])
                logger.warning("%s: ended the forgotten viewer %s", host.target, session_id)
                self._report("viewer.swept", connection_id=host.target.connection_id, session_id=session_id)
        except RemoteError as error:
            logger.info("%s was not searched for forgotten viewers: %s", host.target, error)

    def _report_on(self, session: ViewerSession, event: str, result: str = "ok") -> None:
        self._report(event, result, connection_id=session.target.connection_id, session_id=session.id)

    # --- threads

    def _run(self, name: str, work: Callable[..., None], *arguments: object) -> bool:
        """Do it in a thread of its own. False: there is none, as we are closing or have too many."""

        def run() -> None:
            try:
                work(*arguments)
            except Exception:
                logger.exception("%s ended by an unexpected error", name)
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())

        # What begins with a request has its id in the log.
        thread = threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
        with self._lock:
            if self._closing.is_set():
                return False
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            logger.exception("%s: no thread can be started", name)
            with self._lock:
                self._threads.discard(thread)
            return False
        return True


def _is_loss(error: RemoteError) -> TypeGuard[LinkLost]:
    """Whether the connection is of no use any more. One that refuses a channel has answered."""
    return isinstance(error, LinkLost) and error.code != "CHANNEL_REFUSED"
