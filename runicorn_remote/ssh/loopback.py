"""Listening on both loopback addresses, on one port.

Browsers open `http://localhost:PORT`, which may be ::1 first: a port is ours only if it is free on both.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys

from runicorn_remote.errors import InvalidValue, LocalPortInUse

_BACKLOG = 512
_FREE_PORT_ATTEMPTS = 50
_NO_IPV6 = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
_CONNECT_TIMEOUT = 0.5


def listen_on_loopback(port: int | None) -> list[socket.socket]:
    """-> non-blocking listeners on 127.0.0.1 and, where the host has it, ::1, all on the same port.

    `port` None: any that is free on both. Any thread; needs no network. Raises `LocalPortInUse`, and
    `InvalidValue` for a port this user may not have.
    """
    if port is not None:
        return _listen(port)
    for _ in range(_FREE_PORT_ATTEMPTS):
        with contextlib.suppress(LocalPortInUse):  # free on 127.0.0.1, taken on ::1
            return _listen(0)
    raise LocalPortInUse("No local port is free on both 127.0.0.1 and ::1")


def _listen(port: int) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    try:
        listeners.append(_listener(socket.AF_INET, "127.0.0.1", port))
        if socket.has_ipv6:
            port = listeners[0].getsockname()[1]
            try:
                listeners.append(_listener(socket.AF_INET6, "::1", port))
            except OSError as error:
                if error.errno not in _NO_IPV6:
                    raise
    except OSError as error:
        for listener in listeners:
            listener.close()
        if error.errno == errno.EADDRINUSE:
            raise LocalPortInUse(f"Local port {port} is already in use") from error
        if error.errno == errno.EACCES:
            raise InvalidValue(f"Local port {port} may not be used by this user") from error
        raise
    return listeners


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    if port and sys.platform not in ("linux", "win32") and _answers(family, host, port):
        raise OSError(errno.EADDRINUSE, "somebody listens on all addresses")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Only lets us have a port back whose old connections are in TIME_WAIT.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(family: socket.AddressFamily, host: str, port: int) -> bool:
    """BSD's SO_REUSEADDR lets 127.0.0.1 be bound beside a listener on 0.0.0.0: ask whether there is one."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        return probe.connect_ex((host, port)) == 0
