"""What the application has to know of a connection and WSGI has no variable for: whose it is, and which of
our addresses it came to.

waitress makes a channel of each connection and a task of each request, and tasks make the WSGI
environment. Ours add `LOCAL_ADDRESS` (TCP) or `PEER_UID` (unix socket: SO_PEERCRED, unix(7), Linux).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from runicorn_remote.api.peer import LOCAL_ADDRESS, PEER_UID

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Task(WSGITask):
    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        with contextlib.suppress(OSError):  # the client is gone
            name = self.channel.socket.getsockname()
            if isinstance(name, tuple):
                environ.setdefault(LOCAL_ADDRESS, name[0])
            else:  # of a unix socket it is a path
                environ.setdefault(PEER_UID, uid_of(self.channel.socket))
        return environ


class Channel(HTTPChannel):
    task_class = Task


def uid_of(sock: socket.socket) -> int | None:
    """The user who has connected to a unix socket; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    uid: int = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))[1]
    return uid & 0xFFFFFFFF
