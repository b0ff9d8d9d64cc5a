"""One forwarded TCP connection: a `direct-tcpip` channel joined to a local socket.

Downloads go from the transport thread straight into the non-blocking local socket; what it does not
take is queued and given to it by the tunnel thread. The peer gets window credit only for bytes the
socket has taken, so a client that stops reading costs at most one window of memory and nobody's time.
Uploads are read by the tunnel thread, only while the peer's window and the SSH socket have room.
DATA, EOF and CLOSE are posted by the tunnel thread alone: their order needs no lock. It flushes the
transport at the end of its turn, so that what a turn has to send goes out together.

Every method says which thread may call it.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import paramiko
from paramiko.common import DEFAULT_MAX_PACKET_SIZE, MSG_CHANNEL_DATA, cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message

if TYPE_CHECKING:
    from .transport import TunnelTransport

WINDOW = 2 * 1024 * 1024  # as OpenSSH; more makes sshd buffer it, at two to four times its CPU per byte
LONG_WIRE_WINDOW = 8 * 1024 * 1024  # what a long wire needs to be kept full
_UPLOAD_BURST = 8  # packets a turn, so that one upload does not keep the others waiting
_PACKET_OVERHEAD = 64
_DATA_HEADER = struct.Struct(">BII")  # RFC 4254, 5.2
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ChannelOwner(Protocol):
    """The tunnel, as its channels see it."""

    def wake(self, channel: ForwardChannel) -> None:
        """Have the tunnel thread look at this channel. Any thread; returns at once."""

    def received(self, count: int) -> None:
        """`count` bytes went to the local client. Transport or tunnel thread."""

    def sent(self, count: int) -> None:
        """`count` bytes of the local client went to the remote. Tunnel thread."""


class Progress(enum.Enum):
    """What stopped an upload."""

    WAITING = enum.auto()  # for the local client, or for the peer's window
    STALLED = enum.auto()  # the link has no room
    BUSY = enum.auto()  # nothing: its turn is over


_Channel: Any = paramiko.Channel  # the type stubs know only its public side


class ForwardChannel(_Channel):
    """`transport.open_forward` creates it. The socket is non-blocking and belongs to the channel."""

    in_window_size: int

    def __init__(
        self, chanid: int, transport: TunnelTransport, sock: socket.socket, owner: ChannelOwner
    ) -> None:
        super().__init__(chanid)
        self._set_transport(transport)
        self._set_window(WINDOW, DEFAULT_MAX_PACKET_SIZE)
        self.link_transport = transport
        self.sock = sock
        self.owner = owner
        self.refused = False
        self.opened_after: float | None = None  # seconds from the request to its confirmation
        self.remote_eof = False
        self.remote_closed = False
        self.local_eof = False
        self.watched = 0  # what the tunnel thread watches the socket for
        self.upload_blocked = False  # by the peer's window; guarded by lock
        self._asked_at = time.monotonic()
        self._given_up = False  # guarded by lock
        self._write_end_shut = False
        self._delivery_lock = threading.Lock()  # guards the next three and the order of writes to the socket
        self._cut = False
        self._pending: collections.deque[memoryview] = collections.deque()
        self._pending_bytes = 0

    def __del__(self) -> None:
        """paramiko would send from here, in whatever thread the collector runs; our owner has closed us."""

    # --- transport thread: the peer's messages

    def confirm(self, remote_chanid: int, window: int, max_packet: int) -> None:
        """The channel is open. Transport thread."""
        with self.lock:
            self._set_remote_channel(remote_chanid, window, max_packet)
            farewell = self._close_internal() if self._given_up else ()
        self.opened_after = time.monotonic() - self._asked_at
        self._post_all(farewell, hold=False)
        self.owner.wake(self)

    def refuse(self) -> None:
        """The channel will not be opened. Transport thread."""
        self.refused = True
        self.owner.wake(self)

    def deliver(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Bytes from the peer, for the local client. Transport thread.

        The buffers are used only during the call: a packet reader may reuse them.
        """
        taken = 0
        with self._delivery_lock:
            if self._cut:
                return
            queued_before = bool(self._pending)
            if not queued_before:
                try:
                    taken = self._write(chunks)
                except OSError:
                    self._discard()
            if taken < sum(map(len, chunks)):
                self._queue_from(taken, chunks)
            news = self._cut or (self._pending and not queued_before)
        if news:
            self.owner.wake(self)
        if taken:
            self._credit(taken)
        if self.link_transport.is_backlogged:
            self.link_transport.flush()

    def _feed(self, m: bytes | Message) -> None:
        self.deliver((m if isinstance(m, bytes) else m.get_binary(),))

    def _feed_extended(self, m: Message) -> None:
        """A forwarded connection has no stderr; nothing is credited for it."""

    def _window_adjust(self, m: Message) -> None:
        super()._window_adjust(m)
        with self.lock:
            blocked, self.upload_blocked = self.upload_blocked, False
        if blocked:
            self.owner.wake(self)

    def _handle_eof(self, m: Message) -> None:
        super()._handle_eof(m)
        self.remote_eof = True
        self.owner.wake(self)

    def _handle_close(self, m: Message) -> None:
        self.remote_closed = True
        if self._cut:
            self.link_transport.release(self)
        else:
            self.owner.wake(self)

    # --- tunnel thread

    @property
    def is_open(self) -> bool:
        """Confirmed, and our CLOSE is not out. Any thread."""
        return bool(self.active) and not self.closed

    @property
    def is_cut(self) -> bool:
        """The local side is over. Any thread."""
        return self._cut

    @property
    def is_finished(self) -> bool:
        """All that is to come has come, and the local client has it. Tunnel thread."""
        ended = self.remote_closed or (self.remote_eof and self.local_eof)  # read first, as in `flush`
        return ended and not self._pending

    @property
    def wants_read(self) -> bool:
        """Tunnel thread."""
        return self.is_open and not (self.local_eof or self.upload_blocked or self.remote_closed)

    @property
    def wants_write(self) -> bool:
        """Tunnel thread."""
        return bool(self._pending)

    def flush(self) -> None:
        """Give the socket what it did not take before. Tunnel thread. `OSError`: the client is gone."""
        ended = self.remote_eof or self.remote_closed  # read first: after it nothing more is delivered
        if not (ended or self._pending or self._cut):
            return  # what comes right now will wake us
        with self._delivery_lock:
            if self._cut:
                raise ConnectionResetError("the client has reset the connection")
            taken = self._write_pending()
            emptied = not self._pending
        if taken:
            self._credit(taken)
        if ended and emptied and not self._write_end_shut:
            self._write_end_shut = True
            self.sock.shutdown(socket.SHUT_WR)

    def upload(self) -> Progress:
        """Carry what the client sends. Tunnel thread. `OSError`: the client is gone."""
        for _ in range(_UPLOAD_BURST):
            if not self.wants_read:
                return Progress.WAITING
            if not self.link_transport.can_carry_data():
                return Progress.STALLED
            room = self._upload_room()
            if not room:
                return Progress.WAITING
            try:
                data = self.sock.recv(room)
            except BlockingIOError:
                return Progress.WAITING
            if not data:
                self.local_eof = True
                self.shutdown_write()
                return Progress.WAITING
            self._post_data(data)
            if len(data) < room:
                return Progress.WAITING
        return Progress.BUSY

    def widen_window(self, size: int) -> None:
        """Let the peer have more bytes under way from now on. Tunnel thread."""
        with self.lock:
            more = size - self.in_window_size
            if more <= 0 or not self.is_open or self.eof_received:
                return
            self.in_window_size = size
            self.in_window_threshold = size // 10
        self._post_credit(more)

    def cut(self, *, reset: bool) -> None:
        """End the local side: the client sees a reset, or a clean close. Sends nothing. Tunnel thread."""
        self.abandon_socket()
        if reset:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()

    def abandon_socket(self) -> socket.socket:
        """End the local side, but leave closing the socket to the caller. Tunnel thread."""
        with self._delivery_lock:
            self._discard()
        return self.sock

    def hang_up(self) -> None:
        """After the local side: end the channel. Tunnel thread, which has to flush the transport."""
        with self.lock:
            self._given_up = True
            farewell = self._close_internal()
        self._post_all(farewell, hold=True)
        if self.remote_closed or self.refused:
            self.link_transport.release(self)

    def shutdown_write(self) -> None:
        """Tell the peer that the client sends no more. Tunnel thread."""
        with self.lock:
            message = None if self.closed else self._send_eof()
        self._post_all((message,), hold=True)

    # --- the local socket; the delivery lock is held

    def _write(self, chunks: Sequence[bytes | memoryview]) -> int:
        """-> how many bytes of `chunks` the socket took."""
        try:
            if len(chunks) == 1:
                taken = self.sock.send(chunks[0])
            elif hasattr(self.sock, "sendmsg"):
                taken = self.sock.sendmsg(chunks)
            else:
                taken = self.sock.send(b"".join(chunks))
        except BlockingIOError:
            return 0
        self.owner.received(taken)
        return taken

    def _write_pending(self) -> int:
        total = 0
        while self._pending:
            chunk = self._pending[0]
            taken = self._write((chunk,))
            total += taken
            if taken < len(chunk):
                self._pending[0] = chunk[taken:]
                break
            self._pending.popleft()
        self._pending_bytes -= total
        return total

    def _queue_from(self, start: int, chunks: Sequence[bytes | memoryview]) -> None:
        """Keep what lies behind the first `start` bytes."""
        if self._cut:
            return
        for chunk in chunks:
            rest = chunk[start:]
            start = max(0, start - len(chunk))
            if len(rest):
                self._pending.append(memoryview(bytes(rest)))
                self._pending_bytes += len(rest)
        if self._pending_bytes > self.in_window_size + self.in_max_packet_size:
            self._discard()  # a peer that sends beyond its window gets no memory for it

    def _discard(self) -> None:
        self._cut = True
        self._pending.clear()
        self._pending_bytes = 0

    # --- messages

    def _upload_room(self) -> int:
        """-> how much may be sent in one packet now; 0: `_window_adjust` will wake us. Tunnel thread."""
        largest: int = min(self.out_max_packet_size - _PACKET_OVERHEAD, DEFAULT_MAX_PACKET_SIZE)
        if self.out_window_size <= 0:
            with self.lock:
                self.upload_blocked = self.out_window_size <= 0
        return max(0, min(self.out_window_size, largest))

    def _post_data(self, data: bytes) -> None:
        with self.lock:
            if self.closed:
                return
            self.out_window_size -= len(data)
        header = _DATA_HEADER.pack(MSG_CHANNEL_DATA, self.remote_chanid, len(data))
        self.link_transport.post_message(Message(header + data), hold=True)
        self.owner.sent(len(data))

    def _credit(self, count: int) -> None:
        """The socket took `count` bytes: the peer may send as many more. Transport or tunnel thread."""
        due = self._check_add_window(count)
        if due:
            self._post_credit(due)

    def _post_credit(self, count: int) -> None:
        message = Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(self.remote_chanid)
        message.add_int(count)
        self.link_transport.post_message(message)

    def _post_all(self, messages: Sequence[Message | None], *, hold: bool) -> None:
        for message in messages:
            if message is not None:
                self.link_transport.post_message(message, hold=hold)
