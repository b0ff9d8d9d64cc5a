"""The ports of the loopback address, and who listens there. Runs on the remote machine: Python >= 3.6."""

import os
import socket

from runicorn_remote.onhost.processes import group_members, has_proc

LOOPBACK = "127.0.0.1"


def bindable(port: int) -> bool:
    """Whether a server could listen on the port now. That may change before it does."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the viewer's own server does: a port whose last connections only linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except (OSError, OverflowError):
            return False
    return True


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def listens(port: int, pid: int) -> bool:
    """Whether the process, or one of the group it leads, listens on the port. A stranger does not count."""
    if not _accepts(port):
        return False
    # Where it cannot be found out, that the port was free and the process is alive has to do.
    return _listener_belongs_to(port, pid) is not False


def _accepts(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            # A connection from a port to itself succeeds without any listener, and keeps the port.
            probe.bind((LOOPBACK, 0))
            if probe.getsockname()[1] == port:
                return False
            probe.connect((LOOPBACK, port))
        except OSError:
            return False
    return True


def _listener_belongs_to(port: int, pid: int) -> "bool | None":
    """None: it cannot be found out here."""
    if not has_proc():
        return None
    try:
        listening = _listening_inodes(port)
        if "0" in listening:  # Some sandboxes do not say.
            return None
        return bool(listening & _socket_inodes(pid)) or any(
            listening & _socket_inodes(member) for member, _ in group_members(pid) if member != pid
        )
    except PermissionError:
        return None
    except FileNotFoundError:
        # The process, or its /proc/net.
        return None if not os.path.exists("/proc/net/tcp") else False


def _listening_inodes(port: int) -> "set[str]":
    inodes = set()
    with open("/proc/net/tcp") as table:
        next(table)
        for row in table:
            fields = row.split()
            # 0A is LISTEN. The address may be any: a viewer that ignores --host is a viewer.
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _socket_inodes(pid: int) -> "set[str]":
    directory = f"/proc/{pid}/fd"
    inodes = set()
    for name in os.listdir(directory):
        try:
            target = os.readlink(os.path.join(directory, name))
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes
