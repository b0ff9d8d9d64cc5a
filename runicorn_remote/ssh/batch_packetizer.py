"""SSH packets, many to a system call.

paramiko's `Packetizer` asks the socket twice for each packet, with a `poll` before each, and copies the
bytes five times. Here one `recv_into` takes all that has arrived, AES-GCM packets are decrypted from that
buffer into another one, and the data of forwarded connections goes to them as views of it, several packets
at a time. Everything else comes out of `read_message`, as paramiko expects. What is sent can be collected
with `post`, and goes out with one `push`, which does not wait.

Ciphers other than AES-GCM, and compression, are decoded by paramiko's code, from the same buffer.

This relies on private names of paramiko's; `packetizer_support` tells whether they are as we know them.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.common import MSG_CHANNEL_DATA, xffffffff
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

# A packet of RFC 4253, 6, as AES-GCM seals it (RFC 5647, 7.3):
# length (plain) | padding length, payload, padding (encrypted) | tag
_LENGTH = struct.Struct(">I")
_TAG = 16
_BLOCK = 16  # what is encrypted is a multiple of it
_LARGEST = 256 * 1024  # OpenSSH's PACKET_MAX_SIZE
# From the padding length on: padding length | message number, channel, length of data | data | padding
_DATA_HEADER = struct.Struct(">BBII")

_PADDING_LENGTH = [bytes([size]) for size in range(4 + _BLOCK)]
_PADDING = [bytes(size) for size in range(4 + _BLOCK)]

_BUFFER = 512 * 1024
_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
_DECRYPTS_INTO = hasattr(AESGCM, "decrypt_into")  # not in older releases of cryptography
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}
_PATIENCE = struct.pack("ll", 0, 100_000)  # struct timeval; as long as paramiko waits between its checks


class Sink(Protocol):
    """A forwarded connection, as the reader sees it."""

    def deliver(self, chunks: Sequence[memoryview]) -> None:
        """Bytes from the peer; the views are valid only during the call. Transport thread."""


def no_sink(_chanid: int) -> Sink | None:
    return None


_Packetizer: Any = Packetizer  # the type stubs know only its public side


def _pages(size: int) -> memoryview:
    """Memory that takes room only where it is written: an idle connection uses its first pages, if any."""
    return memoryview(mmap.mmap(-1, size, **_PRIVATE))


class BatchPacketizer(_Packetizer):
    """A `Packetizer` for a real socket. What reads is for the transport thread, what writes for any."""

    _Packetizer__iv_in: bytes
    _Packetizer__remainder: bytes
    _Packetizer__sequence_number_in: int
    _Packetizer__sequence_number_out: int
    _Packetizer__iv_out: bytes
    _Packetizer__received_bytes_overflow: int
    _Packetizer__received_packets_overflow: int

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.find_sink: Callable[[int], Sink | None] = no_sink  # by the number of the channel
        self._arrived = _pages(_BUFFER)  # between _begin and _end: not looked at yet
        self._begin = 0
        self._end = 0
        self._plain = _pages(_BUFFER)  # each packet at the place it has in _arrived
        self._unsent = bytearray()  # encrypted; this and the next: guarded by paramiko's write lock
        self._posting = False
        self.is_full = False  # the socket takes no more for now; changed under the write lock

    # --- paramiko's interface

    def start_handshake(self, timeout: float) -> None:
        """The banners are exchanged, packets follow."""
        super().start_handshake(timeout)
        self._wait_in_the_kernel()

    def read_message(self) -> tuple[int, Message]:
        """Deliver what is for sinks until a message comes that is not. -> its number, and the message.

        Raises `NeedRekeyException` when it is time to ask for new keys, `EOFError` at the end of the
        connection, `SSHException` for what cannot be a packet of the peer's.
        """
        if not self._is_aes_gcm():
            message: tuple[int, Message] = super().read_message()
            return message
        while True:
            begin = self._begin
            found = self._take_packets()
            if found is not None:
                return found
            if self._begin > begin and self.need_rekey():
                raise NeedRekeyException
            self._fill()

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """-> exactly `n` bytes. Raises as `read_message`."""
        if n > _BUFFER:
            raise SSHException("Invalid packet length")
        while self._end - self._begin < n:
            self._fill(check_rekey=check_rekey)
        if n <= 0:  # of a packet with an absurd length, as its MAC will tell
            return b""
        begin, self._begin = self._begin, self._begin + n
        return bytes(self._arrived[begin : self._begin])

    def write_all(self, out: bytes) -> None:
        """Send, after what was posted; waits for room. Any thread. `EOFError`: the connection is over."""
        self._unsent += out
        if self._posting:
            return
        self.is_full = True  # for those who would not wait
        super().write_all(bytes(self._unsent))
        self._unsent.clear()
        self.is_full = False

    # --- Outlet; any thread

    def has_room(self) -> bool:
        return not self.is_full

    def post(self, message: Message) -> None:
        """Encrypt a message, to be sent by the next `push`."""
        with self._Packetizer__write_lock:
            if self._seals_simply():
                self._seal(message.asbytes())
                return
            self._posting = True
            try:
                self.send_message(message)
            finally:
                self._posting = False

    def push(self) -> None:
        """Send what was posted, as far as the socket takes it now; `is_full` if that is not all.

        Raises `OSError` if the connection is over.
        """
        lock = self._Packetizer__write_lock
        if not lock.acquire(blocking=False):
            return  # by somebody in `write_all`, who sends ours as well
        try:
            if self._unsent:
                self._Packetizer__keepalive_last = time.time()
                del self._unsent[: self._send_at_once()]
                self.is_full = bool(self._unsent)
        finally:
            lock.release()

    @property
    def unsent_bytes(self) -> int:
        """How much there is to push."""
        return len(self._unsent)

    def _send_at_once(self) -> int:
        """-> how many bytes the socket took. Holding the write lock."""
        try:
            taken: int = self._Packetizer__socket.send(self._unsent, _AT_ONCE)
        except (BlockingIOError, TimeoutError):
            return 0
        return taken

    def _seals_simply(self) -> bool:
        return (
            self._Packetizer__aead_out
            and self._Packetizer__compress_engine_out is None
            and not self._Packetizer__dump_packets
        )

    def _seal(self, payload: bytes) -> None:
        """What paramiko's `send_message` does with AES-GCM. Holding the write lock.

        The padding is of zeros, as paramiko has it in CTR mode, of which AES-GCM is a kind.
        """
        following = (self._Packetizer__sequence_number_out + 1) & xffffffff
        if following == 0 and not self._initial_kex_done:
            raise SSHException("Sequence number rolled over during initial kex!")
        padding = 3 + _BLOCK - (len(payload) + _LENGTH.size) % _BLOCK
        length = _LENGTH.pack(1 + len(payload) + padding)
        packet = _PADDING_LENGTH[padding] + payload + _PADDING[padding]
        nonce = self._Packetizer__iv_out
        sealed = self._Packetizer__block_engine_out.encrypt(nonce, packet, length)
        self._Packetizer__iv_out = self._inc_iv_counter(nonce)
        self._Packetizer__sequence_number_out = following
        self._unsent += length
        self._unsent += sealed
        self._Packetizer__sent_bytes += len(length) + len(sealed)
        self._Packetizer__sent_packets += 1
        if not self._Packetizer__need_rekey and (
            self._Packetizer__sent_bytes >= self.REKEY_BYTES
            or self._Packetizer__sent_packets >= self.REKEY_PACKETS
        ):
            self._Packetizer__received_bytes_overflow = 0
            self._Packetizer__received_packets_overflow = 0
            self._trigger_rekey()

    # --- packets that come

    def _is_aes_gcm(self) -> bool:
        return (
            self._Packetizer__aead_in
            and isinstance(self._Packetizer__block_engine_in, AESGCM)
            and self._Packetizer__compress_engine_in is None
            and not self._Packetizer__dump_packets
        )

    def _take_packets(self) -> tuple[int, Message] | None:
        """Take whole packets from the buffer, up to the first that is for no sink. -> that, or None."""
        deliveries: dict[Sink, list[memoryview]] = {}
        found = None
        while found is None and (packet := self._next_packet()) is not None:
            padding, number, chanid, length = _DATA_HEADER.unpack_from(packet)
            sink = None
            if number == MSG_CHANNEL_DATA and _DATA_HEADER.size + length + padding == len(packet):
                sink = self.find_sink(chanid)
            if sink is None:
                found = number, self._message(packet, padding)
            else:
                data = packet[_DATA_HEADER.size : _DATA_HEADER.size + length]
                deliveries.setdefault(sink, []).append(data)
        for sink, chunks in deliveries.items():
            sink.deliver(chunks)
        return found

    def _next_packet(self) -> memoryview | None:
        """-> the next one, decrypted, from its padding length on; None: it has not arrived as a whole."""
        arrived = self._end - self._begin
        if arrived < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack_from(self._arrived, self._begin)
        if not _BLOCK <= size <= _LARGEST:
            raise SSHException("Invalid packet length")
        if arrived < _LENGTH.size + size + _TAG:
            return None
        begin = self._begin + _LENGTH.size
        end = begin + size
        packet = self._plain[begin:end]
        sealed = self._arrived[begin : end + _TAG]
        plain_length = self._arrived[self._begin : begin]
        engine, nonce = self._Packetizer__block_engine_in, self._Packetizer__iv_in
        try:
            if _DECRYPTS_INTO:
                engine.decrypt_into(nonce, sealed, plain_length, packet)
            else:
                packet = memoryview(engine.decrypt(nonce, sealed, plain_length))
        except InvalidTag:
            raise SSHException("Mismatched MAC") from None
        self._Packetizer__iv_in = self._inc_iv_counter(nonce)
        self._begin = end + _TAG
        self._count(_LENGTH.size + size + _TAG)
        return packet

    def _message(self, packet: memoryview, padding: int) -> Message:
        """What follows the message's number. Called before the next packet is taken."""
        if padding + 2 > len(packet):
            raise SSHException("Invalid padding length")
        message = Message(bytes(packet[2 : len(packet) - padding]))
        message.seqno = (self._Packetizer__sequence_number_in - 1) & xffffffff
        return message

    def _count(self, size: int) -> None:
        """Number the packet, and ask for new keys in time, as paramiko does."""
        following = (self._Packetizer__sequence_number_in + 1) & xffffffff
        if following == 0 and not self._initial_kex_done:
            raise SSHException("Sequence number rolled over during initial kex!")
        self._Packetizer__sequence_number_in = following
        self._Packetizer__received_bytes += size
        self._Packetizer__received_packets += 1
        if self._Packetizer__need_rekey:
            self._Packetizer__received_bytes_overflow += size
            self._Packetizer__received_packets_overflow += 1
            if (
                self._Packetizer__received_bytes_overflow >= self.REKEY_BYTES_OVERFLOW_MAX
                or self._Packetizer__received_packets_overflow >= self.REKEY_PACKETS_OVERFLOW_MAX
            ):
                raise SSHException("Remote transport is ignoring rekey requests")
        elif (
            self._Packetizer__received_bytes >= self.REKEY_BYTES
            or self._Packetizer__received_packets >= self.REKEY_PACKETS
        ):
            self._Packetizer__received_bytes_overflow = 0
            self._Packetizer__received_packets_overflow = 0
            self._trigger_rekey()

    # --- bytes

    def _fill(self, *, check_rekey: bool = True) -> None:
        """Wait for more bytes. Raises as `read_message`."""
        rest = self._end - self._begin
        if self._begin:
            self._arrived[:rest] = self._arrived[self._begin : self._end]
            self._begin, self._end = 0, rest
        if self._Packetizer__remainder:  # what came with the peer's banner
            ahead, self._Packetizer__remainder = self._Packetizer__remainder, b""
            self._end += len(ahead)
            self._arrived[rest : self._end] = ahead
            return
        while True:
            if self.handshake_timed_out():
                raise EOFError
            try:
                count = self._Packetizer__socket.recv_into(self._arrived[self._end :])
            except (TimeoutError, BlockingIOError):
                if self._Packetizer__closed:
                    raise EOFError from None
                if check_rekey and not rest and self.need_rekey():
                    raise NeedRekeyException from None
                self._check_keepalive()
            except OSError:
                if self._Packetizer__closed:
                    raise EOFError from None
                raise
            else:
                if not count:
                    raise EOFError
                self._end += count
                return

    def _wait_in_the_kernel(self) -> None:
        """Let `recv` and `send` time out by themselves, where they can.

        With a time-out of Python's, each has a `poll` before it. The kernel's looks like EAGAIN, which
        paramiko expects as well.
        """
        if sys.platform == "win32":  # it has these options, in a format of its own
            return
        sock = self._Packetizer__socket
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            sock.settimeout(None)
