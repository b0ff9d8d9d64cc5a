"""The beginning of an SSH connection, one step at a time, for those who want to know where it fails.

A login (`runicorn_remote.ssh.connect`) does the same in one go. Nothing here sends a credential or writes
a file, and nothing is left open.
"""

from __future__ import annotations

import socket
import time
from typing import Any

import paramiko

from runicorn_remote.errors import LinkLost
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import make_router, transport_factory
from runicorn_remote.ssh.dial import dial
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.host_keys import HostKeyPolicy
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.route import Hop
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.target_rules import TargetRules
from runicorn_remote.ssh.translate import link_errors, login_errors, unreachable
from runicorn_remote.ssh.transport import TunnelTransport

_LONGEST_BANNER = 8192
_CONNECT_FAILED = 2  # SSH_OPEN_CONNECT_FAILED
_THREAD_ENDS_WITHIN = 2.0


class Handshake:
    """The steps, to be taken in order by one thread. Each returns what a person may want to see.

    They are about the first server on the way: the host itself, or the first of its jump hosts. All raise
    what a login raises (`SshConfigUnusable`, `Unreachable`, `LoginFailed`, `TargetForbidden`,
    `HostKeyConfirmationRequired`). Close it at the end.
    """

    def __init__(self, target: Target, settings: Settings, known_hosts: KnownHostsFile) -> None:
        """Raises `ValueError` for target rules that cannot be used."""
        self._asked_for = target
        self._settings = settings
        self._router = make_router(settings)
        self._hop: Hop | None = None
        self._known_hosts = known_hosts
        self._rules = TargetRules(settings.allowed_targets, settings.denied_targets)
        self._sock: _ReadAhead | None = None
        self._transport: TunnelTransport | None = None

    @property
    def has_proxy_command(self) -> bool:
        """Whether a program makes the connection: then there is nothing to see before the login."""
        return self._hop is not None and self._hop.options.proxy_command is not None

    def resolve(self) -> str:
        """-> who is called first, at which addresses."""
        route = self._router.route(self._asked_for)
        self._hop = route[0]
        if self.has_proxy_command:
            return "ssh_config has a ProxyCommand"
        addresses = self._addresses()
        if self._target == self._asked_for:
            return addresses
        way = f"; {len(route) - 1} jump hosts on the way" if len(route) > 1 else ""
        return f"{addresses}: {self._target}, as ssh_config says{way}"

    def _addresses(self) -> str:
        self._rules.check_host(self._target.host)
        try:
            found = socket.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = error if isinstance(error, OSError) else socket.gaierror(str(error))
            raise unreachable(self._target, reason) from error
        return ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))

    def connect(self) -> str:
        """-> the address and port that answered."""
        timeout = self._way.options.connect_timeout or self._settings.connect_timeout
        sock = dial(self._target, self._rules, timeout)
        self._sock = _ReadAhead(sock)
        address, port = self._sock.getpeername()[:2]
        return f"{address} port {port}"

    def read_banner(self) -> str:
        """-> what the server calls itself (RFC 4253, 4.2: other lines may come before)."""
        assert self._sock is not None
        with login_errors(self._target):
            return self._sock.read_banner(time.monotonic() + self._settings.banner_timeout)

    def exchange_keys(self) -> str:
        """-> what was agreed on."""
        assert self._sock is not None
        factory = transport_factory(self._settings, self._known_hosts, self._way)
        transport: Any = factory(self._sock)
        self._transport = transport
        transport.banner_timeout = self._settings.banner_timeout
        with login_errors(self._target):
            transport.start_client(timeout=self._settings.banner_timeout + self._settings.auth_timeout)
        return f"{transport.remote_cipher}, host key {transport.host_key_type}"

    def judge_host_key(self) -> str:
        """-> the host's key, if it is trusted."""
        transport: Any = self._transport
        key: paramiko.PKey = transport.get_remote_server_key()
        allow_weak = self._settings.allow_weak_algorithms
        policy = HostKeyPolicy(self._known_hosts, self._way, allow_weak=allow_weak)
        policy.missing_host_key(paramiko.SSHClient(), self._target.host, key)
        return f"{key.get_name()} {HostKey(key.get_name(), key.asbytes()).fingerprint_sha256}"

    @property
    def _way(self) -> Hop:
        assert self._hop is not None, "resolve comes first"
        return self._hop

    @property
    def _target(self) -> Target:
        return self._way.target

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport.join(_THREAD_ENDS_WITHIN)
        if self._sock is not None:
            self._sock.close()


class _ReadAhead(socket.socket):
    """A socket whose first line was looked at: what was read comes again."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self._ahead = b""

    def read_banner(self, deadline: float) -> str:
        """Raises OSError, with "banner" in it if there is none in time."""
        while (line := _banner_in(self._ahead)) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or len(self._ahead) > _LONGEST_BANNER:
                raise OSError("no banner")
            self.settimeout(remaining)
            try:
                chunk = super().recv(4096)
            except TimeoutError as error:
                raise OSError("no banner") from error
            if not chunk:
                raise EOFError
            self._ahead += chunk
        return line

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self._ahead:
            chunk, self._ahead = self._ahead[:size], self._ahead[size:]
            return chunk
        return super().recv(size, flags)


def _banner_in(received: bytes) -> str | None:
    for line in received.split(b"\n")[:-1]:
        if line.startswith(b"SSH-"):
            return line.rstrip(b"\r").decode("ascii", "replace")
    return None


def check_forwarding(host: RemoteHost, timeout: float) -> None:
    """Raise `LinkLost` (CHANNEL_REFUSED) if the server does not forward to its own loopback address.

    The port is 1 (tcpmux), where nobody listens: that the connection failed means that it was allowed
    and tried. RFC 4254, 5.1 has a reason code of its own for what is prohibited.
    """
    transport: Any = host.transport
    try:
        with link_errors(host.target):
            if not transport.clear_to_send.wait(timeout):  # else open_channel waits without end
                raise TimeoutError
            ends = ("127.0.0.1", 1), ("127.0.0.1", 0)
            transport.open_channel("direct-tcpip", *ends, timeout=timeout).close()
    except LinkLost as error:
        cause = error.__cause__
        if not isinstance(cause, paramiko.ChannelException) or cause.code != _CONNECT_FAILED:
            raise
