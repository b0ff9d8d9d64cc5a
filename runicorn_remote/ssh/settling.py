"""One command on a new connection, sent without waiting for any of its answers.

sshd sets TCP_NODELAY on its side once a session has run a command, and only then; without it every
small answer through a tunnel waits 44 ms for an acknowledgement. Waiting for the command would cost
each login that same delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.message import Message

if TYPE_CHECKING:
    from .transport import TunnelTransport

# Any shell knows it, and it does nothing.
_COMMAND = "true"
_WINDOW = 32 * 1024


class SettlingChannel(paramiko.Channel):
    """A session that runs its command and ends by itself. `transport.settle` creates it."""

    def __init__(self, chanid: int, transport: TunnelTransport) -> None:
        super().__init__(chanid)
        self._set_transport(transport)  # type: ignore[attr-defined]
        self._set_window(_WINDOW, _WINDOW)  # type: ignore[attr-defined]
        self._link = transport

    def __del__(self) -> None:
        """paramiko would send from here, in whatever thread the collector runs."""

    def confirm(self, remote_chanid: int, window: int, max_packet: int) -> None:
        """The session is open: have it run the command, and close it. Transport thread."""
        self._set_remote_channel(remote_chanid, window, max_packet)  # type: ignore[attr-defined]
        request = Message()
        request.add_byte(cMSG_CHANNEL_REQUEST)
        request.add_int(remote_chanid)
        request.add_string("exec")
        request.add_boolean(False)
        request.add_string(_COMMAND)
        self._link.post_message(request)
        with self.lock:
            farewell = self._close_internal()  # type: ignore[attr-defined]
        for message in farewell:
            if message is not None:
                self._link.post_message(message)

    def refuse(self) -> None:
        """No session for us: then nothing is settled. Transport thread."""

    def _handle_close(self, m: Message) -> None:
        self._link.release(self)
