"""Plain Python between the HTTP layer and SSH. `Services` owns all of it."""

from __future__ import annotations

import threading

from runicorn_remote.clock import Clock
from runicorn_remote.peers import PeerCheck
from runicorn_remote.services.audit import Audit
from runicorn_remote.services.connections import Connections, Login
from runicorn_remote.services.environments import Environments
from runicorn_remote.services.event_streams import EventStreams
from runicorn_remote.services.files import Files
from runicorn_remote.services.heartbeat import Heartbeat
from runicorn_remote.services.idempotency import IdempotentStarts
from runicorn_remote.services.installs import Installs
from runicorn_remote.services.interactive_logins import InteractiveLogins
from runicorn_remote.services.known_hosts import KnownHosts
from runicorn_remote.services.launch_commands import LaunchCommands
from runicorn_remote.services.launch_templates import LaunchTemplates
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.login_backoff import LoginAttempts
from runicorn_remote.services.metrics import Metrics, StateCollector
from runicorn_remote.services.recovery import Recovery
from runicorn_remote.services.reports import Reports
from runicorn_remote.services.restored_sessions import restored
from runicorn_remote.services.saved_connections import SavedConnections
from runicorn_remote.services.secret_box import SecretBox
from runicorn_remote.services.secret_keys import places
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.session_store import SessionStore
from runicorn_remote.services.start_jobs import StartJobs
from runicorn_remote.services.start_up import StartUp
from runicorn_remote.services.ui_preferences import UiPreferences
from runicorn_remote.services.viewers import Viewers
from runicorn_remote.settings import Settings, SettingsError
from runicorn_remote.ssh.connect import Connector, make_router
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.interactive import Person
from runicorn_remote.ssh.pool import ConnectionPool
from runicorn_remote.ssh.target import Credentials, Target


class Services:
    """Everything one server needs, built together, started once and closed once, in order."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None, token: str | None = None) -> None:
        """Touches no file and no network, and starts no thread. `token`: what requests have to bring."""
        self.settings = settings
        self.clock = clock or Clock()
        state_dir = settings.resolved_state_dir()
        self.state_dir = state_dir
        # What waits for a host shares these places; see `runicorn_remote.api.limits`.
        self.slow_requests = threading.BoundedSemaphore(settings.slow_requests)
        try:
            self.peers = PeerCheck(settings.allowed_users, enabled=settings.check_user)
        except ValueError as error:
            raise SettingsError(f"allowed_users: {error}") from error
        self.token = token
        self.started = self.shutting_down = False
        self.audit = Audit(settings.audit_log, self.clock)
        self.metrics = Metrics()
        self._report = Reports(self.audit, self.metrics)
        self.ui_preferences = UiPreferences(state_dir / "ui_preferences.json")
        self.known_hosts = KnownHosts(state_dir / "known_hosts", self.clock)
        self.saved_connections = SavedConnections(
            state_dir / "connections.json",
            SecretBox(*places(settings)),
            store_secrets=settings.store_secrets,
        )
        try:
            self._connector = Connector(settings, self.known_hosts.file)
        except ValueError as error:
            raise SettingsError(f"allowed_targets, denied_targets: {error}") from error
        self._login_attempts = LoginAttempts(self.clock, settings.login_backoff_max)
        login_timeout = settings.connect_timeout + settings.banner_timeout + settings.auth_timeout
        self.pool = ConnectionPool(
            self._open,
            open_timeout=login_timeout,
            check_timeout=settings.probe_timeout,
            max_connections=settings.max_connections,
        )
        self.logins = InteractiveLogins(
            self._open,
            self.clock,
            patience=settings.challenge_timeout,
            step_timeout=login_timeout,
        )
        self.connections = Connections(self.pool, self.saved_connections, self.logins)
        self.environments = Environments(settings.command_timeout, self.clock)
        self.installs = Installs(
            self.connections,
            self.pool,
            self.environments,
            self.clock,
            timeout=settings.install_timeout,
            keep_for=settings.ended_session_ttl,
        )
        self.files = Files(settings.command_timeout)
        self.session_store = SessionStore(state_dir / "sessions.json")
        self.sessions = SessionRegistry(
            self.session_store, limit=settings.max_viewers, keep_ended=settings.ended_session_ttl
        )
        try:
            launch_commands = LaunchCommands(LaunchTemplates(settings.launch), make_router(settings))
        except ValueError as error:
            raise SettingsError(f"launch: {error}") from error
        launcher = Launcher(
            launch_commands,
            start_timeout=settings.viewer_start_timeout,
            stop_timeout=settings.viewer_stop_timeout,
            probe_timeout=settings.probe_timeout,
        )
        self._holdings = SessionHoldings(
            settings,
            self.pool,
            launcher,
            self.sessions,
            on_link_lost=lambda: self.heartbeat.wake(),
            accept_hook=self.peers.allows_socket,
        )
        start_up = StartUp(
            launcher,
            self.sessions,
            health_timeout=settings.health_timeout,
            server_id=lambda: self.session_store.server_id,
        )
        self.viewers = Viewers(
            settings,
            self.clock,
            self.connections,
            self.sessions,
            self._holdings,
            launch_commands,
            start_up,
            self.metrics,
        )
        self.event_streams = EventStreams(
            self.clock, limit=settings.max_event_streams, wake_followers=self._wake_followers
        )
        self.start_jobs = StartJobs(self.viewers, self.clock, self._report, limit=settings.slow_requests)
        self.idempotent_starts = IdempotentStarts(
            self.clock,
            lambda session_id: self.sessions.get(session_id).snapshot(),
            patience=settings.longest_start,
        )
        self.recovery = Recovery(
            settings,
            self.clock,
            self.sessions,
            self._holdings,
            start_up,
            launcher,
            reopen=self.connections.reopen,
            release=self.pool.release,
            server_id=lambda: self.session_store.server_id,
            report=self._report,
        )
        self.heartbeat = Heartbeat(settings, self.clock, self.sessions, launcher, self.recovery)
        self.metrics.registry.register(StateCollector(self))

    def start(self) -> None:
        """Find the viewers of an earlier server, start the background threads. Called once, by the server."""
        self._report("server.started")
        sessions = restored(self.session_store.claim(), self.connections, self._holdings, self.clock)
        self.sessions.add_restored(sessions)
        for target in {session.target for session in sessions}:
            self.recovery.begin(target)
        for session in sessions:
            self._report.on(session, "viewer.restored")
        self.heartbeat.start()
        self.started = True

    def close(self) -> None:
        """End what is left, in order: what acts by itself, sessions, connections. Every wait is bounded."""
        self.shutting_down = True
        self.event_streams.close()
        self.heartbeat.close()
        self.recovery.stop()
        self.installs.close(self.settings.shutdown_timeout / 2)
        self.logins.close()
        self.viewers.close(keep=self.settings.on_shutdown == "keep")
        self.pool.close()
        self.start_jobs.join(self.settings.shutdown_timeout)
        self.recovery.join(self.settings.shutdown_timeout)
        self.session_store.close()
        if self.started:
            self._report("server.stopped")
        self.audit.close()

    def _open(self, target: Target, credentials: Credentials, person: Person | None = None) -> RemoteHost:
        """What the pool logs in with: every login, also of a reconnect, goes through here.

        Viewers that were forgotten there are looked for afterwards.
        """
        with (
            self.metrics.ssh_connects.measure(),
            self._login_attempts.counting(target, credentials.identity),
            self.known_hosts.seen.noting(),
        ):
            host = self._connector(target, credentials, person)
        self.recovery.opened(host)
        return host

    def _wake_followers(self) -> None:
        self.sessions.wake_followers()
        self.installs.wake_followers()

    def connect(self, login: Login) -> Target:
        """Log in for the user; viewers that wait for credentials there come back with these."""
        target, credentials = self.connections.connect(login)
        self.recovery.resume(target, credentials)
        return target

    def disconnect(self, host: str, port: int, username: str, *, stop_viewers: bool) -> bool:
        """End the user's hold on a connection, on request also the viewers over it."""
        if stop_viewers:
            self.viewers.stop_all(Target.of(host, port, username))
        return self.connections.disconnect(host, port, username)
