"""Many TCP connections over one pair of pipes. Runs on the remote machine: Python >= 3.6.

Each direction of each stream has a credit of its own, so a reader that stops holds up nobody else, and
every buffer is bounded: `WINDOW` a stream and direction, and what is on its way out.
"""

import functools
import os
import selectors
import socket
import time
from typing import Any, Callable  # noqa: UP035

from runicorn_remote.onhost.frames import (
    CREDIT,
    DATA,
    EOF,
    OPEN,
    PING,
    RESET,
    FrameError,
    FrameReader,
    frame,
    number_in,
)
from runicorn_remote.onhost.relayed_stream import RelayedStream

MAX_STREAMS = 512
# Bytes on their way out, beyond which nothing is read from sockets.
_ENOUGH_OUT = 256 * 1024
_READ_AT_ONCE = 64 * 1024
# Seconds. Whoever hears nothing for the longer time takes the other side for dead.
_PING_EVERY = 15.0
_SILENCE = 300.0


class Multiplexer:
    """For one thread, which calls `turn` again and again. `ended` says why there is nothing more to do."""

    def __init__(
        self,
        incoming: int,
        outgoing: int,
        *,
        on_message: "Callable[[int, int], None]",
        connect_to: "tuple[str, int] | None" = None,
    ) -> None:
        """`on_message(kind, number)`: READY and ENDED. `connect_to`: where streams that are opened lead."""
        self.ended: str | None = None
        self._incoming = incoming
        self._outgoing = outgoing
        self._on_message = on_message
        self._connect_to = connect_to
        self._selector = selectors.PollSelector()
        self._frames = FrameReader()
        self._out = bytearray()
        self._streams: dict[int, RelayedStream] = {}
        self._next_number = 1
        self._heard = self._pinged = time.monotonic()
        for descriptor in (incoming, outgoing):
            os.set_blocking(descriptor, False)
        self.watch(incoming, self._receive)

    def watch(self, source: "Any", callback: "Callable[[], None]") -> None:
        """Have `callback` called when `source` can be read from."""
        self._selector.register(source, selectors.EVENT_READ, lambda events: callback())

    def send(self, data: bytes) -> None:
        """One frame, as soon as the pipe takes it."""
        self._out += data

    def add(self, sock: socket.socket) -> None:
        """Carry a connection that was accepted here; over the limit it is cut."""
        if len(self._streams) >= MAX_STREAMS:
            sock.close()
            return
        number = self._next_number
        self._next_number += 1
        self._streams[number] = RelayedStream(number, sock, self.send)
        self.send(frame(OPEN, number))

    def receive(self, data: bytes) -> None:
        """What has come from the other side."""
        self._heard = time.monotonic()
        try:
            for kind, number, payload in self._frames.feed(data):
                self._handle(kind, number, payload)
        except FrameError as error:
            self.ended = "what comes through the launch command is not ours: " + str(error)

    def turn(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for something to do, and do it."""
        self._write()
        self._update()
        for key, events in self._selector.select(timeout):
            key.data(events)
        now = time.monotonic()
        if now - self._pinged > _PING_EVERY:
            self._pinged = now
            self.send(frame(PING))
        if now - self._heard > _SILENCE and self.ended is None:
            self.ended = "nothing was heard from the other side"
        self._write()

    def flush(self, timeout: float) -> None:
        """Send what is left, for at most so many seconds."""
        deadline = time.monotonic() + timeout
        while self._out and self.ended is None and time.monotonic() < deadline:
            self.turn(0.05)

    def close(self) -> None:
        for stream in self._streams.values():
            stream.abort()
            stream.sock.close()
        self._streams.clear()
        self._selector.close()

    # --- the pipes

    def _receive(self) -> None:
        try:
            data = os.read(self._incoming, _READ_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.ended = str(error)
            return
        if data:
            self.receive(data)
        else:
            self.ended = "the other side is gone"
            self._selector.unregister(self._incoming)

    def _write(self) -> None:
        try:
            while self._out:
                with memoryview(self._out) as view:
                    written = os.write(self._outgoing, view[:_READ_AT_ONCE])
                del self._out[:written]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._out.clear()
            self.ended = self.ended or str(error)

    # --- the streams

    def _handle(self, kind: int, number: int, payload: bytes) -> None:
        if kind == OPEN:
            self._open(number)
            return
        if number == 0:
            if kind != PING:
                self._on_message(kind, number_in(payload))
            return
        stream = self._streams.get(number)
        if stream is None:
            return  # It was reset here, and the other end did not know yet.
        if kind == DATA:
            stream.deliver(payload)
        elif kind == EOF:
            stream.got_eof()
        elif kind == CREDIT:
            stream.add_credit(number_in(payload))
        elif kind == RESET:
            stream.abort()

    def _open(self, number: int) -> None:
        if self._connect_to is None or number in self._streams or len(self._streams) >= MAX_STREAMS:
            raise FrameError("a stream that cannot be opened")
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        except OSError:  # too many open files
            self.send(frame(RESET, number))
            return
        stream = RelayedStream(number, sock, self.send)
        self._streams[number] = stream
        stream.connecting = True
        try:
            stream.sock.connect(self._connect_to)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            stream.reset()

    def _update(self) -> None:
        """Have the selector look at what can be done now."""
        self._look_at(self._outgoing, selectors.EVENT_WRITE if self._out else 0, _nothing)
        full = len(self._out) > _ENOUGH_OUT
        for number, stream in list(self._streams.items()):
            if stream.over:
                self._look_at(stream.sock, 0, _nothing)
                stream.sock.close()
                del self._streams[number]
                continue
            events = selectors.EVENT_READ if stream.wants_to_read and not full else 0
            events |= selectors.EVENT_WRITE if stream.wants_to_write else 0
            self._look_at(stream.sock, events, functools.partial(_serve, stream))

    def _look_at(self, source: "Any", events: int, callback: "Callable[[int], None]") -> None:
        try:
            known = self._selector.get_key(source)
        except KeyError:
            if events:
                self._selector.register(source, events, callback)
            return
        if not events:
            self._selector.unregister(source)
        elif events != known.events:
            self._selector.modify(source, events, callback)


def _serve(stream: RelayedStream, events: int) -> None:
    if events & selectors.EVENT_WRITE and not stream.over:
        stream.write()
    if events & selectors.EVENT_READ and not stream.over:
        stream.read()


def _nothing(events: int) -> None:
    """Of a pipe that takes more: `turn` writes anyway."""
