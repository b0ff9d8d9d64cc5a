"""Who is at the other end of a loopback connection: the user who owns its socket, as the kernel says.

On a shared machine everybody can connect to 127.0.0.1; only its owner may use this server and its
tunnels. Linux lists every TCP socket with the user id of its owner in /proc/net/tcp and tcp6
(proc_net_tcp in the kernel's documentation): addresses in hexadecimal, host byte order a word.
Where there is no such list (macOS, some containers) nobody can be told apart; that is said once.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_TABLES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}
# What is left of a closed connection belongs to nobody: its row says 0, which is root's number.
_TIME_WAIT = "06"


@dataclass(frozen=True)
class Peer:
    """The two ends of a TCP connection to us: (address, port)."""

    remote: tuple[str, int]
    local_port: int


class PeerCheck:
    """Lets in the processes of certain users. May be called from any thread."""

    def __init__(self, allowed_users: Iterable[str] = (), *, enabled: bool = True) -> None:
        """`allowed_users`: names or numbers, beside the one this process runs as. Raises `ValueError`."""
        own = {os.geteuid()} if hasattr(os, "geteuid") else set()
        self._allowed = own | {_user_id(user) for user in allowed_users}
        self._enabled = enabled
        self._warned = threading.Event()

    @property
    def works(self) -> bool:
        """Whether this machine tells who owns a connection."""
        return self._enabled and os.access(_TABLES[socket.AF_INET], os.R_OK)

    def allows(self, peer: Peer) -> bool:
        """Whether the process at the other end is of an allowed user. Other addresses than loopback pass."""
        if not self._enabled or not _is_loopback(peer.remote[0]):
            return True
        if not self.works:
            self._warn_once()
            return True
        owner = owner_of(peer)
        return owner is not None and owner in self._allowed

    def allows_socket(self, sock: socket.socket) -> bool:
        """The same for a connection that has just been accepted."""
        try:
            remote, local = sock.getpeername(), sock.getsockname()
        except OSError:
            return False
        return self.allows(Peer((remote[0], remote[1]), local[1]))

    def _warn_once(self) -> None:
        if not self._warned.is_set():
            self._warned.set()
            logger.warning(
                "%s does not tell which user a local connection comes from: every user of this machine can "
                "use this server and its viewers. Set token_file, or listen on a unix socket.",
                sys.platform,
            )


def owner_of(peer: Peer) -> int | None:
    """The user id behind the other end of a connection, or None if it is gone."""
    address = ipaddress.ip_address(peer.remote[0].partition("%")[0])
    families = [(socket.AF_INET, address)]
    if isinstance(address, ipaddress.IPv6Address):
        families = [(socket.AF_INET6, address)]
    else:
        # A client may have used an IPv6 socket for an IPv4 address.
        families.append((socket.AF_INET6, ipaddress.ip_address(f"::ffff:{address}")))
    for family, mine in families:
        owner = _look_up(_TABLES[family], f"{_hex(mine)}:{peer.remote[1]:04X}", f":{peer.local_port:04X}")
        if owner is not None:
            return owner
    return None


def _look_up(table: str, local: str, remote_port: str) -> int | None:
    """The owner of the socket whose local end is `local` and whose remote end is our port."""
    try:
        with open(table, encoding="ascii") as stream:
            next(stream, None)
            for line in stream:
                fields = line.split(None, 8)
                if fields[1] == local and fields[2].endswith(remote_port) and fields[3] != _TIME_WAIT:
                    return int(fields[7])
    except (OSError, ValueError, IndexError):
        return None
    return None


def _hex(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address as the kernel prints it: 32-bit words in the byte order of the machine."""
    packed = address.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _user_id(user: str) -> int:
    if user.isdigit():
        return int(user)
    try:
        import pwd
    except ImportError as error:
        raise ValueError(f"{user!r}: give a number; names cannot be looked up on {sys.platform}") from error
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise ValueError(f"there is no user {user!r} on this machine") from error
