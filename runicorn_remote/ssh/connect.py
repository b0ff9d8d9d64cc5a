"""Logging in: TCP, host key, credentials, in that order, and nothing left behind on any failure."""

from __future__ import annotations

import logging
import socket
import time

import fabric

from runicorn_remote.settings import Settings
from runicorn_remote.ssh.auth import Authentication
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.host_keys import HostKeyPolicy
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.translate import login_errors, unreachable
from runicorn_remote.ssh.transport import make_transport_factory

logger = logging.getLogger(__name__)


class Connector:
    """Opens connections. Stateless; may be called from any thread, for several targets at once."""

    def __init__(self, settings: Settings, known_hosts: KnownHostsFile) -> None:
        self._settings = settings
        self._known_hosts = known_hosts

    def __call__(self, target: Target, credentials: Credentials) -> RemoteHost:
        """Log in to `target`.

        Raises `KeyUnusable` before anything is sent, `Unreachable`, `HostKeyConfirmationRequired`
        with the key of this very handshake, or `LoginFailed`.
        """
        started = time.monotonic()
        authentication = Authentication(target, credentials)
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
        sock = self._dial(target)
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

    def _dial(self, target: Target) -> socket.socket:
        """A TCP connection, all addresses within one deadline. Raises `Unreachable`."""
        deadline = time.monotonic() + self._settings.connect_timeout
        try:
            addresses = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise unreachable(target, error) from error
        except UnicodeError as error:
            raise unreachable(target, socket.gaierror(str(error))) from error
        last: OSError = TimeoutError()
        for family, kind, protocol, _, address in addresses:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(remaining)
                sock.connect(address)
                return sock
            except OSError as error:
                if sock is not None:
                    sock.close()
                last = error
        raise unreachable(target, last) from last
