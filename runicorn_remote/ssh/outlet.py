"""Sending packets without waiting for room in the SSH socket.

`BatchPacketizer` is an `Outlet` itself; `PlainOutlet` makes one of paramiko's own `Packetizer`.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any, Protocol

from paramiko.message import Message

_ROOM_FOR_A_PACKET = 40 * 1024


class Outlet(Protocol):
    """The last two raise what paramiko does: `EOFError`, `OSError`, `SSHException`."""

    @property
    def is_full(self) -> bool:
        """Whether a part of what was posted waits for room in the socket. Any thread."""

    @property
    def unsent_bytes(self) -> int:
        """How much was posted and not sent. Any thread."""

    def has_room(self) -> bool:
        """Whether the socket takes a packet; True also if nobody can tell. One thread at a time."""

    def post(self, message: Message) -> None:
        """Encrypt a message; it goes out with the next `push` at the latest. One thread at a time."""

    def push(self) -> None:
        """Send what was posted, as far as the socket takes it now. One thread at a time."""


class PlainOutlet:
    """For a packetizer that sends each message at once. `post` waits, but not after `has_room`."""

    is_full = False
    unsent_bytes = 0

    def __init__(self, packetizer: Any, sock: Any) -> None:
        self._packetizer = packetizer
        self._poller: Any = None
        if not isinstance(sock, socket.socket):  # a jump host's channel carries us, and it waits by itself
            return
        if hasattr(select, "poll"):
            self._poller = select.poll()
            self._poller.register(sock, select.POLLOUT)
        if hasattr(socket, "SO_SNDLOWAT"):
            with contextlib.suppress(OSError):  # Linux has it and refuses, but needs it least
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDLOWAT, _ROOM_FOR_A_PACKET)

    def has_room(self) -> bool:
        return self._poller is None or bool(self._poller.poll(0))

    def post(self, message: Message) -> None:
        self._packetizer.send_message(message)

    def push(self) -> None:
        """Nothing is left to send."""
