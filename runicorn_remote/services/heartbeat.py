"""Looks after running viewers: one thread that asks, a few that wait for the answers.

Three things are told apart, nearest first: the viewer's health (a request over the SSH connection,
not counted as use), the link (a channel opened within a deadline), the process (asked of the host).
A dead host delays no other: every probe runs in a small pool and has a deadline of its own.

A viewer ends itself after half an hour without a request, and a health check is a request. So a
viewer whose tunnel nobody has used for `idle_probe_after` seconds is only asked for its process.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from runicorn_remote.clock import Clock
from runicorn_remote.errors import LinkLost, RemoteError
from runicorn_remote.services import health_check
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.recovery import Recovery
from runicorn_remote.services.session_fields import WATCHED
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.http_probe import probe_http
from runicorn_remote.ssh.target import Target

logger = logging.getLogger(__name__)

_PROBES = 16
# One slow answer is a busy viewer; two in a row are worth a word.
_FAILURES_UNTIL_DEGRADED = 2
# The wall clock against the monotonic one: more than any correction of the time makes of it.
_CLOCK_JUMP = 5.0
_LOOK_AT_CLOCK = 1.0
# An idle viewer's process is asked for less often: it costs its host the start of a Python.
_IDLE_QUESTION_EVERY = 30.0


class Heartbeat:
    """Owns the threads `heartbeat` and `probe-N`. `start` and `close` are called once, by `Services`."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        registry: SessionRegistry,
        launcher: Launcher,
        recovery: Recovery,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._registry = registry
        self._launcher = launcher
        self._recovery = recovery
        self._executor = ThreadPoolExecutor(_PROBES, thread_name_prefix="probe")
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._ticked: float | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop asking. Probes under way end at their deadlines at the latest."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(self._settings.shutdown_timeout)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look now: something was noticed elsewhere, such as a transport that ended."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def age(self) -> float | None:
        """Seconds since all viewers were last looked at; None before the first time. Takes no lock."""
        ticked = self._ticked
        return self._clock.monotonic() - ticked if ticked is not None else None

    def tick(self, now: float) -> None:
        """Start a probe for every session that has none under way. `now` is the clock's monotonic time."""
        for session in _one_host_after_the_other(self._registry.sessions()):
            if session.status in WATCHED and self._claim(session):
                self._executor.submit(self._probe, session, now)
        self._recovery.look_after()
        self._registry.prune()

    def _run(self) -> None:
        due = self._clock.monotonic()
        offset = self._clock.time() - due
        while not self._closing.is_set():
            now = self._clock.monotonic()
            moved = self._clock.time() - now - offset
            if abs(moved) > _CLOCK_JUMP:
                # The machine slept: the monotonic clock stood still, the links may be long dead.
                offset += moved
                logger.info("The clock moved by %.0f s; looking at all links now", moved)
                self._recovery.hurry()
                due = now
            if self._wake.is_set() or now >= due:
                self._wake.clear()
                due = now + self._settings.heartbeat_interval
                self._tick_safely(now)
            self._wake.wait(max(0.0, min(_LOOK_AT_CLOCK, due - self._clock.monotonic())))

    def _tick_safely(self, now: float) -> None:
        try:
            self.tick(now)
            self._ticked = self._clock.monotonic()
        except Exception:
            logger.exception("The heartbeat stumbled; it goes on")

    def _claim(self, session: ViewerSession) -> bool:
        with self._lock:
            if session.id in self._under_way:
                return False
            self._under_way.add(session.id)
            return True

    def _probe(self, session: ViewerSession, now: float) -> None:
        try:
            self.examine(session, now, ask_when_idle=self._may_ask_when_idle(session, now))
        except Exception:
            logger.exception("The probe of session %s failed unexpectedly", session.id)
        finally:
            with self._lock:
                self._under_way.discard(session.id)

    def examine(self, session: ViewerSession, now: float, *, ask_when_idle: bool = True) -> None:
        """Ask once and let the session know. Takes at most the three deadlines together.

        `ask_when_idle` False: of a viewer that nobody uses only the link is looked at.
        """
        host, process, tunnel = session.host, session.process, session.tunnel
        if host is None or process is None or tunnel is None:
            return
        in_use = now - tunnel.last_activity < self._settings.idle_probe_after
        if in_use and self._answers(host, process.port):
            session.healthy()
            return
        try:
            host.check(self._settings.probe_timeout)
            if not (in_use or ask_when_idle):
                return
            state = self._launcher.process_state(host, session.id, process)
        except LinkLost as error:
            if error.has_answered:
                session.deaf(_FAILURES_UNTIL_DEGRADED)
            else:
                self._recovery.link_lost(host, error)
        except RemoteError as error:
            logger.info("Session %s: the host gave no answer about its process: %s", session.id, error)
            session.deaf(_FAILURES_UNTIL_DEGRADED)
        else:
            if not state.alive:
                self._recovery.process_gone(session, state)
            elif in_use:
                session.deaf(_FAILURES_UNTIL_DEGRADED)

    @staticmethod
    def _may_ask_when_idle(session: ViewerSession, now: float) -> bool:
        if now - session.asked_when_idle < _IDLE_QUESTION_EVERY:
            return False
        session.asked_when_idle = now
        return True

    def _answers(self, host: RemoteHost, port: int) -> bool:
        try:
            answer = probe_http(host.transport, port, "/api/health", self._settings.health_timeout)
        except (RemoteError, OSError, EOFError):
            return False
        return health_check.says_ok(answer.status, answer.body)


def _one_host_after_the_other(sessions: list[ViewerSession]) -> list[ViewerSession]:
    """The first session of every host, then the second of every host, and so on.

    When a network dies, all hosts are silent at once; each should be asked in the first round.
    """
    places: Counter[Target] = Counter()
    ranked = []
    for session in sessions:
        ranked.append((places[session.target], session))
        places[session.target] += 1
    return [session for _, session in sorted(ranked, key=lambda entry: entry[0])]
