"""Who is at the other end of a loopback connection: the user who owns its socket, as the kernel says.

On a shared machine everybody can connect to 127.0.0.1; only its owner may use this server and its
tunnels. Linux tells the user id behind a socket when it is asked for that one (`socket_diag`), and
lists all of them in /proc/net/tcp and tcp6 (proc_net_tcp in the kernel's documentation): addresses in
hexadecimal, host byte order a word. The list is slow where there are many sockets, and always there.
Where it is not (macOS, some containers) nobody can be told apart; that is said once.
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

from runicorn_remote.socket_diag import Address, Unavailable, owner_of_socket

logger = logging.getLogger(__name__)

_TABLES = {socket.AF_INET: "/proc/net/tcp", socket.AF_INET6: "/proc/net/tcp6"}
# What is left of a connection after its process closed it: the row's user is 0 then, which is root's number.
_NO_INODE = "0"


@dataclass(frozen=True)
class Peer:
    """The two ends of a TCP connection to us: (address, port), and our own port and address, if known."""

    remote: tuple[str, int]
    local_port: int
    local_address: str | None = None


class PeerCheck:
    """Lets in the processes of certain users. May be called from any thread."""

    def __init__(self, allowed_users: Iterable[str] = (), *, enabled: bool = True) -> None:
        """`allowed_users`: names or numbers, beside the one this process runs as. Raises `ValueError`."""
        own = {os.geteuid()} if hasattr(os, "geteuid") else set()
        self._allowed = own | {_user_id(user) for user in allowed_users}
        self._works = enabled and os.access(_TABLES[socket.AF_INET], os.R_OK)
        self._enabled = enabled
        self._warned = threading.Event()
        self.owners = SocketOwners()

    @property
    def works(self) -> bool:
        """Whether this machine tells who owns a connection."""
        return self._works

    def allows(self, peer: Peer) -> bool:
        """Whether the process at the other end is of an allowed user. Other addresses than loopback pass."""
        if not self._enabled or not _is_loopback(peer.remote[0]):
            return True
        if not self.works:
            self._warn_once()
            return True
        owner = self.owners.owner_of(peer)
        return owner is not None and owner in self._allowed

    def allows_user(self, uid: int | None) -> bool:
        """The same for who has connected to a unix socket; None: the system does not tell, the directory's
        mode has to do."""
        return not self._enabled or uid is None or uid in self._allowed

    def allows_socket(self, sock: socket.socket) -> bool:
        """The same for a connection that has just been accepted."""
        try:
            remote, local = sock.getpeername(), sock.getsockname()
        except OSError:
            return False
        return self.allows(Peer((remote[0], remote[1]), local[1], local[0]))

    def _warn_once(self) -> None:
        if not self._warned.is_set():
            self._warned.set()
            logger.warning(
                "%s does not tell which user a local connection comes from: every user of this machine can "
                "use this server and its viewers. Set token_file, or listen on a unix socket.",
                sys.platform,
            )


def is_another_machine(address: str) -> bool:
    """Whether a connection's remote address is beyond this machine; that of a unix socket is no address."""
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return not _is_loopback(address)


class SocketOwners:
    """Finds who owns the other end of a connection. May be called from any thread."""

    def __init__(self) -> None:
        # A kernel without the module for TCP sockets says the same as one without the socket.
        self._kernel_answers = False

    def owner_of(self, peer: Peer) -> int | None:
        """The user id behind the other end, or None if it is gone. Raises `ValueError` for no address."""
        remote = _parse(peer.remote[0])
        if peer.local_address is None:
            return _listed_owner((remote, peer.remote[1]), (None, peer.local_port))
        local = _parse(peer.local_address)
        try:
            owner = owner_of_socket((remote, peer.remote[1]), (local, peer.local_port))
            self._kernel_answers = self._kernel_answers or owner is not None
            if self._kernel_answers:
                return owner
        except Unavailable:
            pass
        return _listed_owner((remote, peer.remote[1]), (local, peer.local_port))


def owner_of(peer: Peer) -> int | None:
    """The same, once."""
    return SocketOwners().owner_of(peer)


def _listed_owner(theirs: tuple[Address, int], ours: tuple[Address | None, int]) -> int | None:
    """The same from the kernel's lists. None as well where several could be meant."""
    owners = _look_up(theirs, ours)
    if theirs[0].version == 4:
        # A client may have used an IPv6 socket for an IPv4 address.
        owners |= _look_up((_mapped(theirs[0]), theirs[1]), (ours[0] and _mapped(ours[0]), ours[1]))
    return owners.pop() if len(owners) == 1 else None


def _look_up(theirs: tuple[Address, int], ours: tuple[Address | None, int]) -> set[int]:
    """The owners of the sockets whose local end is theirs and whose remote end is ours."""
    family = socket.AF_INET if theirs[0].version == 4 else socket.AF_INET6
    local = f"{_hex(theirs[0])}:{theirs[1]:04X}"
    remote = f"{_hex(ours[0]) if ours[0] else ''}:{ours[1]:04X}"
    owners = set()
    try:
        with open(_TABLES[family], encoding="ascii") as stream:
            next(stream, None)
            for line in stream:
                fields = line.split(None, 10)
                if fields[1] == local and fields[2].endswith(remote) and fields[9] != _NO_INODE:
                    owners.add(int(fields[7]))
    except (OSError, ValueError, IndexError):
        return set()
    return owners


def _mapped(address: Address) -> Address:
    return ipaddress.ip_address(f"::ffff:{address}")


def _parse(address: str) -> Address:
    """An address without its zone; an IPv4 one in IPv6's clothes as what it is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _hex(address: Address) -> str:
    """An address as the kernel prints it: 32-bit words in the byte order of the machine."""
    packed = address.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _is_loopback(address: str) -> bool:
    try:
        return bool(_parse(address).is_loopback)
    except ValueError:
        return False


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
