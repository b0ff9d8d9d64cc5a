"""Whose process is at the other end of a local connection. Runs on the remote machine: Python >= 3.6.

Linux lists all TCP sockets with their owners in /proc/net/tcp and tcp6 (proc_net_tcp in the kernel's
documentation): addresses in hexadecimal, host byte order a word.
"""

import os
import socket
import struct

# And what stands before an IPv4 address there.
_TABLES = (("/proc/net/tcp", b""), ("/proc/net/tcp6", b"\0" * 10 + b"\xff\xff"))


def tells_owners() -> bool:
    """Whether this system says who owns a connection."""
    return os.access(_TABLES[0][0], os.R_OK)


def is_of_own_user(sock: socket.socket) -> bool:
    """Whether an accepted IPv4 connection comes from a process of ours. False where that cannot be told."""
    try:
        theirs, ours = sock.getpeername(), sock.getsockname()
    except OSError:
        return False
    owners = set()
    for table, prefix in _TABLES:
        # A client may have used an IPv6 socket for an IPv4 address.
        owners |= _owners(table, _shown_end(prefix, theirs), _shown_end(prefix, ours))
    return owners == {os.geteuid()}


def _owners(table: str, local: str, remote: str) -> "set[int]":
    found = set()
    try:
        with open(table, "rb") as stream:
            for line in stream.read().decode("ascii", "replace").splitlines()[1:]:
                # No inode: what is left of a connection after its process closed it, with root's number.
                if local in line and remote in line:
                    fields = line.split()
                    if fields[1] == local and fields[2] == remote and fields[9] != "0":
                        found.add(int(fields[7]))
    except (OSError, IndexError, ValueError):
        return set()
    return found


def _shown_end(prefix: bytes, end: "tuple[str, int]") -> str:
    packed = prefix + socket.inet_aton(end[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"
