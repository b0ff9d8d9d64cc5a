"""Logging in: TCP, host key, credentials, in that order, and nothing left behind on any failure."""

from __future__ import annotations

import logging
import time

import fabric

from runicorn_remote.settings import Settings
from runicorn_remote.ssh.auth import Authentication
from runicorn_remote.ssh.dial import dial
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.host_keys import HostKeyPolicy
from runicorn_remote.ssh.key_paths import KeyPaths
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.target_rules import TargetRules
from runicorn_remote.ssh.translate import login_errors
from runicorn_remote.ssh.transport import make_transport_factory

logger = logging.getLogger(__name__)


class Connector:
    """Opens connections. Stateless; may be called from any thread, for several targets at once."""

    def __init__(self, settings: Settings, known_hosts: KnownHostsFile) -> None:
        """Raises `ValueError` for target rules that cannot be used."""
        self._settings = settings
        self._known_hosts = known_hosts
        self._key_paths = KeyPaths(settings.key_roots)
        self._rules = TargetRules(settings.allowed_targets, settings.denied_targets)

    def __call__(self, target: Target, credentials: Credentials) -> RemoteHost:
        """Log in to `target`.

        Raises `KeyUnusable` and `TargetForbidden` before anything is sent, `Unreachable`,
        `HostKeyConfirmationRequired` with the key of this very handshake, or `LoginFailed`.
        """
        started = time.monotonic()
        authentication = Authentication(target, credentials, self._key_paths)
        try:
            connection = self._login(target, authentication)
        finally:
            authentication.close()
        host = RemoteHost(
            target,
            credentials.identity,
            connection,
            sessions=self._settings.sessions_per_connection,
            channel_timeout=self._settings.channel_timeout,
        )
        connection.transport.settle()
        logger.info("Logged in to %s in %.2f s", target, time.monotonic() - started)
        return host

    def _login(self, target: Target, authentication: Authentication) -> fabric.Connection:
        settings = self._settings
        stored_types = self._known_hosts.stored_types(target.host, target.port)
        connection = fabric.Connection(
            target.host,
            user=target.username,
            port=target.port,
            # Without lazy, Fabric runs ~/.fabric.py; ssh_config may run commands too.
            config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
            connect_timeout=settings.connect_timeout,
            connect_kwargs={
                "banner_timeout": settings.banner_timeout,
                "auth_timeout": settings.auth_timeout,
                "channel_timeout": settings.channel_timeout,
                "auth_strategy": authentication,
                "transport_factory": make_transport_factory(
                    key_types=stored_types, client_banner=settings.client_banner
                ),
            },
        )
        # Fabric's default accepts any key. No key is loaded into paramiko, so this sees every one.
        connection.client.set_missing_host_key_policy(HostKeyPolicy(self._known_hosts, target))
        sock = dial(target, self._rules, settings.connect_timeout)
        connection.connect_kwargs["sock"] = sock
        try:
            with login_errors(target):
                connection.open()
        except BaseException:
            # Connection.close() does nothing after a failed open; the client holds thread and socket.
            connection.client.close()
            sock.close()
            raise
        finally:
            connection.connect_kwargs.clear()
        return connection
