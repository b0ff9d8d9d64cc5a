"""Brings viewers back: after a lost link, after a crash of the viewer, after a restart of this server.

A lost link is `reconnecting`'s, a crashed viewer `restarting`'s, a forgotten one `sweeping`'s. Tunnels keep
their local ports throughout.
"""

from __future__ import annotations

from collections.abc import Callable

from runicorn_remote.clock import Clock
from runicorn_remote.errors import LinkLost
from runicorn_remote.services.launcher import Launcher, ProcessState
from runicorn_remote.services.reconnect_attempt import ReconnectAttempt
from runicorn_remote.services.reconnecting import Reconnector
from runicorn_remote.services.reports import Report
from runicorn_remote.services.restarting import Restarter
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.start_up import StartUp
from runicorn_remote.services.sweeping import Sweeper
from runicorn_remote.services.thread_group import ThreadGroup
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target


class Recovery:
    """Owns the threads `reconnect-…`, `restart-…` and `sweep-…`. May be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        registry: SessionRegistry,
        holdings: SessionHoldings,
        start_up: StartUp,
        launcher: Launcher,
        *,
        reopen: Callable[[Target, Credentials, str], RemoteHost],
        release: Callable[[RemoteHost, str], None],
        server_id: Callable[[], str],
        report: Report,
    ) -> None:
        """`reopen` opens (or reuses) a connection; its last argument holds it until `release`."""
        self._threads = ThreadGroup(clock)
        self._attempt = ReconnectAttempt(
            registry,
            holdings,
            launcher,
            reopen=reopen,
            release=release,
            link_lost=self.link_lost,
            process_gone=self.process_gone,
            report=report,
        )
        self._reconnector = Reconnector(settings, registry, holdings, self._attempt, self._threads, report)
        self._restarter = Restarter(
            settings, registry, holdings, start_up, self._reconnector, self._threads, report
        )
        self._sweeper = Sweeper(registry, launcher, server_id=server_id, report=report)

    # --- what others notice

    def link_lost(self, host: RemoteHost, error: LinkLost) -> None:
        """A connection is gone, or does not answer: detach all its viewers and bring them back."""
        self._reconnector.link_lost(host, error)

    def process_gone(self, session: ViewerSession, state: ProcessState) -> None:
        """The viewer's process has ended. Idle: that is its end. A crash: start it again, a few times."""
        self._restarter.process_gone(session, state)

    def opened(self, host: RemoteHost) -> None:
        """A new connection: look for viewers of ours that no session knows, out of the request's way."""
        self._threads.start(f"sweep-{host.target.host}", self._sweeper.sweep, host)

    def begin(self, target: Target) -> None:
        """Reconnect the waiting sessions of this target: now, where an attempt is being waited for."""
        self._reconnector.begin(target)

    def resume(self, target: Target, credentials: Credentials) -> None:
        """Somebody has logged in: the sessions that wait for credentials there can use these."""
        self._reconnector.resume(target, credentials)

    def look_after(self) -> None:
        """What nothing announces, now and then: a local port that is free again, a thread that has died."""
        self._reconnector.look_after()

    def hurry(self) -> None:
        """Try now instead of at the end of the pause: the network may be back (the machine woke up)."""
        self._reconnector.hurry()

    def stop(self) -> None:
        """Begin nothing any more. What is under way ends with its current step."""
        self._threads.close()
        self._reconnector.stop()

    def join(self, deadline: float) -> None:
        """After `stop`, wait up to `deadline` seconds for the threads."""
        self._threads.join(deadline)
