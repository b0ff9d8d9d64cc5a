"""One TCP connection at one end of the relay. Runs on the remote machine: Python >= 3.6."""

import socket
import struct
from typing import Callable  # noqa: UP035

from runicorn_remote.onhost.frames import (
    CREDIT,
    DATA,
    EOF,
    MAX_PAYLOAD,
    RESET,
    WINDOW,
    FrameError,
    frame,
    numbered,
)

# Credit is given in pieces of this size: a frame for every read would be as many frames again.
_CREDIT_STEP = WINDOW // 4
_WRITE_AT_ONCE = 64 * 1024


class RelayedStream:
    """The socket, what it has not taken yet, and what may still be sent for it. Never blocks.

    `send` takes frames for the other end. At most `WINDOW` bytes are kept here, whatever the reader does.
    Once it is `over`, whoever watches the socket closes it.
    """

    def __init__(self, number: int, sock: socket.socket, send: "Callable[[bytes], None]") -> None:
        self.number = number
        self.sock = sock
        self._send = send
        self._credit = WINDOW
        self._unsent = bytearray()
        self._taken = 0
        self._read_all = self._got_all = self._closed_writing = False
        self.connecting = False
        self.over = False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def wants_to_read(self) -> bool:
        return not (self._read_all or self.connecting) and self._credit > 0

    @property
    def wants_to_write(self) -> bool:
        return self.connecting or bool(self._unsent)

    # --- what the socket does

    def read(self) -> None:
        """Pass on what is there, as far as there is credit."""
        if not self.wants_to_read:
            return
        try:
            data = self.sock.recv(min(MAX_PAYLOAD, self._credit))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.reset()
            return
        if data:
            self._credit -= len(data)
            self._send(frame(DATA, self.number, data))
            return
        self._read_all = True
        self._send(frame(EOF, self.number))
        self._end_if_done()

    def write(self) -> None:
        """Give the socket what it takes, and the other end credit for it."""
        if self.connecting:
            if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.reset()
                return
            self.connecting = False
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = self.sock.send(view[:_WRITE_AT_ONCE])
                del self._unsent[:sent]
                self._taken += sent
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.reset()
            return
        if self._taken >= _CREDIT_STEP:
            self._send(numbered(CREDIT, self.number, self._taken))
            self._taken = 0
        self._close_writing_if_done()

    def reset(self) -> None:
        """The connection broke here: the other end's has to."""
        self._send(frame(RESET, self.number))
        self.abort()

    # --- what the other end says

    def deliver(self, data: bytes) -> None:
        if self._got_all or len(self._unsent) + len(data) > WINDOW:
            raise FrameError("more than was asked for")
        waiting = bool(self._unsent) or self.connecting
        self._unsent += data
        if not waiting:
            self.write()

    def got_eof(self) -> None:
        self._got_all = True
        self._close_writing_if_done()

    def add_credit(self, number: int) -> None:
        self._credit += number
        if self._credit > WINDOW:
            raise FrameError("credit for what was never sent")

    def abort(self) -> None:
        """End the connection so that its client notices that it was cut."""
        if not self.over:
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.over = True

    # --- the ends

    def _close_writing_if_done(self) -> None:
        if self._got_all and not self._unsent and not self.connecting and not self._closed_writing:
            self._closed_writing = True
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.reset()
                return
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._read_all and self._closed_writing:
            self.over = True
