"""Byte streams to SSH servers: all addresses of a host within one deadline, forbidden ones never."""

from __future__ import annotations

import socket
import time

import paramiko

from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.target_rules import TargetRules, forbidden
from runicorn_remote.ssh.translate import jump_errors, unreachable
from runicorn_remote.ssh.transport import TunnelTransport


def dial(target: Target, rules: TargetRules, timeout: float) -> socket.socket:
    """A connection to the first address that answers, at most `timeout` seconds from now.

    The address that was checked is the one that is dialled: nothing is looked up in between. Raises
    `TargetForbidden` if no address may be dialled, `Unreachable`.
    """
    deadline = time.monotonic() + timeout
    rules.check_host(target.host)
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise unreachable(target, error) from error
    except UnicodeError as error:
        raise unreachable(target, socket.gaierror(str(error))) from error
    addresses = [entry for entry in found if rules.permits(target.host, str(entry[4][0]))]
    if not addresses:
        raise forbidden(target.host)
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


def dial_through(
    carrier: TunnelTransport, jump_host: str, target: Target, timeout: float
) -> paramiko.Channel:
    """A `direct-tcpip` channel (RFC 4254, 7.2): the jump host resolves the name and connects.

    Raises `Unreachable`, after `timeout` seconds at the latest.
    """
    with jump_errors(jump_host, target):
        # Where the connection comes from is nobody's business there.
        channel: paramiko.Channel = carrier.open_channel(
            "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=timeout
        )
        return channel
