"""Logging in: TCP, host key, credentials, in that order, and nothing left behind on any failure.

Through jump hosts, the same once for each: the stream to the next one is a channel of the one before.
"""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import closing

import fabric
import paramiko

from runicorn_remote.errors import Unreachable
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.auth import Authentication
from runicorn_remote.ssh.chain import Chain
from runicorn_remote.ssh.dial import dial, dial_through
from runicorn_remote.ssh.given_keys import GivenKeys
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.host_keys import HostKeyPolicy
from runicorn_remote.ssh.interactive import Person
from runicorn_remote.ssh.key_paths import KeyPaths
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.proxy_command import ProxyCommand
from runicorn_remote.ssh.route import Hop, Router
from runicorn_remote.ssh.ssh_config import SshConfig
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.target_rules import TargetRules
from runicorn_remote.ssh.translate import login_errors
from runicorn_remote.ssh.transport import TunnelTransport, make_transport_factory

logger = logging.getLogger(__name__)


class Connector:
    """Opens connections. Stateless; may be called from any thread, for several targets at once."""

    def __init__(self, settings: Settings, known_hosts: KnownHostsFile) -> None:
        """Raises `ValueError` for target rules that cannot be used."""
        self._settings = settings
        self._known_hosts = known_hosts
        self._key_paths = KeyPaths(settings.key_roots)
        self._rules = TargetRules(settings.allowed_targets, settings.denied_targets)
        self._router = make_router(settings)

    def __call__(self, target: Target, credentials: Credentials, person: Person | None = None) -> RemoteHost:
        """Log in to `target`, over its jump hosts, each with time-outs of its own.

        `person`: whom the questions of these servers go to, if somebody waits for this login.

        Raises `SshConfigUnusable`, `TargetForbidden` or `KeyUnusable` before anything is sent; `Unreachable`,
        `HostKeyConfirmationRequired` with the key of this very handshake, or `LoginFailed`, of the
        first server on the way that it is true of.
        """
        started = time.monotonic()
        route = self._router.route(target)
        for hop in route[1:]:
            self._rules.check_host(hop.target.host, looked_up_elsewhere=True)
        chain = Chain()
        with closing(GivenKeys(credentials, self._key_paths, route[-1].options.identity_agent)) as given:
            try:
                for hop in route:
                    with closing(Authentication(hop, credentials, given, person)) as authentication:
                        self._log_in(hop, authentication, chain)
            except BaseException:
                chain.close()
                raise
        host = RemoteHost(
            target,
            credentials.identity,
            chain,
            sessions=self._settings.sessions_per_connection,
            channel_timeout=self._settings.channel_timeout,
        )
        way = "".join(f" through {hop.target}" for hop in route[:-1])
        logger.info("Logged in to %s%s in %.2f s", target, way, time.monotonic() - started)
        return host

    def _log_in(self, hop: Hop, authentication: Authentication, chain: Chain) -> None:
        """Add a connection to `chain`, over what it has so far."""
        settings = self._settings
        connection = fabric.Connection(
            hop.target.host,
            user=hop.target.username,
            port=hop.target.port,
            # Without lazy, Fabric runs ~/.fabric.py; ssh_config is looked up by ourselves.
            config=fabric.Config(lazy=True, overrides={"load_ssh_configs": False}),
            connect_timeout=settings.connect_timeout,
            connect_kwargs={
                "banner_timeout": settings.banner_timeout,
                "auth_timeout": settings.auth_timeout,
                "channel_timeout": settings.channel_timeout,
                "auth_strategy": authentication,
                "transport_factory": transport_factory(settings, self._known_hosts, hop),
            },
        )
        # Fabric's default accepts any key. No key is loaded into paramiko, so this sees every one.
        policy = HostKeyPolicy(self._known_hosts, hop, allow_weak=settings.allow_weak_algorithms)
        connection.client.set_missing_host_key_policy(policy)
        sock = self._dial(hop, chain)
        connection.connect_kwargs["sock"] = sock
        try:
            with login_errors(hop.target):
                connection.open()
        except BaseException as error:
            # Connection.close() does nothing after a failed open; the client holds thread and socket.
            connection.client.close()
            sock.close()
            first = not chain.connections
            if first and chain.proxy is not None and isinstance(error, Unreachable):
                raise chain.proxy.failure() or error from error
            raise
        finally:
            connection.connect_kwargs.clear()
        connection.transport.settle()
        chain.connections.append(connection)

    def _dial(self, hop: Hop, chain: Chain) -> socket.socket | paramiko.Channel:
        """A byte stream to `hop`: through the one before it, a ProxyCommand, or TCP. Raises `Unreachable`."""
        timeout = hop.options.connect_timeout or self._settings.connect_timeout
        if chain.connections:
            jump = chain.last
            return dial_through(jump.transport, jump.host, hop.target, timeout)
        if hop.options.proxy_command is not None:
            self._rules.check_host(hop.target.host, looked_up_elsewhere=True)
            chain.proxy = ProxyCommand(hop.target, hop.options.proxy_command)
            return chain.proxy.sock
        return dial(hop.target, self._rules, timeout)


def make_router(settings: Settings) -> Router:
    """What finds the way to a host, by the settings about ssh_config."""
    return Router(
        SshConfig(
            settings.ssh_config,
            commands=settings.ssh_config_commands,
            timeout=settings.connect_timeout,
            program=shutil.which("ssh"),
        )
    )


def transport_factory(
    settings: Settings, known_hosts: KnownHostsFile, hop: Hop
) -> Callable[..., TunnelTransport]:
    """What makes the transport to `hop`, which asks first for the kind of host key that is known.

    Raises `StateError`.
    """
    stored = known_hosts.lookup_certificate(hop.key_host, hop.key_port)
    return make_transport_factory(
        key_types=stored.stored_types,
        certificates_first=bool(stored.authorities),
        allow_weak_algorithms=settings.allow_weak_algorithms,
        client_banner=settings.client_banner,
    )
