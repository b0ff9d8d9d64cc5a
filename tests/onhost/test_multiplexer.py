from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runicorn_remote.onhost.frames import (
    CREDIT,
    DATA,
    ENDED,
    EOF,
    MAX_PAYLOAD,
    OPEN,
    READY,
    RESET,
    WINDOW,
    FrameError,
    FrameReader,
    frame,
    number_in,
    numbered,
)
from runicorn_remote.onhost.multiplexer import MAX_STREAMS, Multiplexer

TIMEOUT = 20.0

# Frames

FRAMES = st.lists(
    st.tuples(st.integers(OPEN, ENDED), st.integers(0, 2**32 - 1), st.binary(max_size=300)), max_size=12
)


@given(FRAMES, st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    frames: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    sent = b"".join(frame(*each) for each in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    reader = FrameReader()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        found += reader.feed(sent[begin:end])
    assert found == frames


@given(FRAMES, st.binary(min_size=1, max_size=200))
def test_noise_between_frames_is_never_taken_for_more_than_it_is(
    frames: list[tuple[int, int, bytes]], noise: bytes
) -> None:
    reader = FrameReader()
    found = []
    with contextlib.suppress(FrameError):
        for each in frames:
            found += reader.feed(frame(*each))
        found += reader.feed(noise + frame(DATA, 1, b"x"))
    assert found[: len(frames)] == frames


@pytest.mark.parametrize("line", [b"srun: Job step aborted\n", b"slurmstepd: error: *** STEP 1.0 CANCELLED"])
def test_a_message_in_between_is_noticed(line: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader().feed(frame(READY, 0, b"") + line)


def test_the_largest_payload() -> None:
    assert FrameReader().feed(frame(DATA, 1, b"x" * MAX_PAYLOAD)) == [(DATA, 1, b"x" * MAX_PAYLOAD)]
    with pytest.raises(FrameError):
        FrameReader().feed(frame(DATA, 1, b"x" * (MAX_PAYLOAD + 1)))


@pytest.mark.parametrize("payload", [b"", b"123", b"12345"])
def test_numbers_have_four_bytes(payload: bytes) -> None:
    with pytest.raises(FrameError):
        number_in(payload)


# Two multiplexers


class Pair:
    """A login node's and a compute node's, each in a thread, and a server beside the second."""

    def __init__(self) -> None:
        self.server = small(socket.create_server(("127.0.0.1", 0)))
        self.server.settimeout(TIMEOUT)
        self._pipes = [os.pipe(), os.pipe()]
        (node_in, login_out), (login_in, node_out) = self._pipes
        self.messages: list[tuple[int, int]] = []
        self._new: list[socket.socket] = []
        self._wakes = [os.pipe(), os.pipe()]
        self.login = Multiplexer(
            login_in, login_out, on_message=lambda kind, number: self.messages.append((kind, number))
        )
        self.node = Multiplexer(
            node_in,
            node_out,
            on_message=lambda kind, number: None,
            connect_to=self.server.getsockname(),
        )
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each, wake[0]), name=name)
            for each, wake, name in zip((self.login, self.node), self._wakes, ("login", "node"), strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """-> the client's end on the login node, the server's on the compute node."""
        with small(socket.create_server(("127.0.0.1", 0))) as listener:
            client = small(socket.create_connection(listener.getsockname(), TIMEOUT))
            self._new.append(listener.accept()[0])
        os.write(self._wakes[0][1], b"x")
        server, _ = self.server.accept()
        server.settimeout(TIMEOUT)
        return client, server

    def _run(self, multiplexer: Multiplexer, wake: int) -> None:
        def woken() -> None:
            os.read(wake, 100)
            while multiplexer is self.login and self._new:
                multiplexer.add(self._new.pop())

        multiplexer.watch(wake, woken)
        while not self._stopping.is_set() and multiplexer.ended is None:
            multiplexer.turn(TIMEOUT)
        multiplexer.close()

    def close(self) -> None:
        self._stopping.set()
        for _, wake in self._wakes:
            os.write(wake, b"x")
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        self.server.close()
        for pipe in (*self._pipes, *self._wakes):
            for descriptor in pipe:
                os.close(descriptor)


def small(sock: socket.socket) -> socket.socket:
    """With buffers that do not hide ours; those of accepted connections are the listener's."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 65536)
    return sock


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    try:
        yield pair
    finally:
        pair.close()


def received(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return bytes(data)


def send_aside(sock: socket.socket, data: bytes) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(OSError):
            sock.sendall(data)

    thread = threading.Thread(target=send, name="send")
    thread.start()
    return thread


def test_both_directions_are_closed_one_by_one(pair: Pair) -> None:
    client, server = pair.connect()
    with client, server:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert received(server, 100) == b"question"
        server.sendall(b"answer")
        assert received(client, 6) == b"answer"
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    client, server = pair.connect()
    with client, server:
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.sendall(b"still here")
        assert received(server, 10) == b"still here"


def test_a_reader_that_has_stopped_holds_up_nobody(pair: Pair) -> None:
    stopped, feeding = pair.connect()
    client, server = pair.connect()
    data = os.urandom(1 << 20) * 8
    with stopped, feeding, client, server:
        threads = [send_aside(feeding, data), send_aside(stopped, data)]
        for one, other in ((client, server), (server, client)):
            thread = send_aside(one, data)
            assert received(other, len(data)) == data
            thread.join(TIMEOUT)
        assert all(thread.is_alive() for thread in threads)
        assert received(stopped, len(data)) == data
        assert received(feeding, len(data)) == data
        for thread in threads:
            thread.join(TIMEOUT)


def test_what_is_kept_for_a_reader_is_bounded(pair: Pair) -> None:
    stopped, feeding = pair.connect()
    for sock in (stopped, feeding):
        sock.settimeout(1.0)
    with stopped, feeding:
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 30:
                sent += feeding.send(b"x" * (1 << 20))
        # Some of the system's buffers are large.
        assert sent < 16 << 20
    kept = [len(stream._unsent) for stream in pair.login._streams.values()]
    assert all(size <= WINDOW for size in kept)


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_that_breaks_breaks_at_the_other_end(pair: Pair, side: str) -> None:
    client, server = pair.connect()
    one, other = (client, server) if side == "client" else (server, client)
    other.settimeout(TIMEOUT)
    with other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()
        with pytest.raises(ConnectionResetError):
            received(other, 1)


def test_a_server_that_is_gone_resets_only_that_connection(pair: Pair) -> None:
    address = pair.server.getsockname()
    pair.server.close()
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        client = socket.create_connection(listener.getsockname(), TIMEOUT)
        pair._new.append(listener.accept()[0])
    os.write(pair._wakes[0][1], b"x")
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    pair.server = socket.create_server(address)
    pair.server.settimeout(TIMEOUT)
    client, server = pair.connect()
    with client, server:
        client.sendall(b"again")
        assert received(server, 5) == b"again"


def test_messages_arrive(pair: Pair) -> None:
    client, server = pair.connect()
    with client, server:
        pair.node.send(numbered(READY, 0, 0) + numbered(ENDED, 0, 7))
        server.sendall(b"x")
        assert client.recv(1) == b"x"
    assert pair.messages == [(READY, 0), (ENDED, 7)]


# What a side that does not keep the rules gets


@pytest.fixture
def alone() -> Iterator[Multiplexer]:
    (incoming, one), (other, outgoing) = os.pipe(), os.pipe()
    multiplexer = Multiplexer(
        incoming, outgoing, on_message=lambda kind, number: None, connect_to=("127.0.0.1", 9)
    )
    try:
        yield multiplexer
    finally:
        multiplexer.close()
        for descriptor in (incoming, one, other, outgoing):
            os.close(descriptor)


BREACHES = {
    "opened twice": frame(OPEN, 1) * 2,
    "too many": b"".join(frame(OPEN, number) for number in range(1, MAX_STREAMS + 2)),
    "more than the window": frame(OPEN, 1) + frame(DATA, 1, b"x" * MAX_PAYLOAD) * (WINDOW // MAX_PAYLOAD + 1),
    "data after the end": frame(OPEN, 1) + frame(EOF, 1) + frame(DATA, 1, b"x"),
    "credit for nothing": frame(OPEN, 1) + numbered(CREDIT, 1, 1),
    "credit of no size": frame(OPEN, 1) + frame(CREDIT, 1, b"1"),
    "a message of no size": frame(READY, 0, b""),
}


@pytest.mark.parametrize("sent", BREACHES.values(), ids=BREACHES)
def test_who_breaks_the_rules_is_left(alone: Multiplexer, sent: bytes) -> None:
    # Reset at once, were it not for this: nobody listens at port 9.
    alone._connect_to = ("192.0.2.1", 9)
    alone.receive(sent)
    assert alone.ended is not None


def test_the_login_node_opens_nothing_for_a_compute_node(alone: Multiplexer) -> None:
    alone._connect_to = None
    alone.receive(frame(OPEN, 1))
    assert alone.ended is not None


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([DATA, EOF, RESET, CREDIT]), st.binary(max_size=8)), max_size=8))
def test_frames_about_streams_that_are_gone_are_ignored(frames: list[tuple[int, bytes]]) -> None:
    (incoming, one), (other, outgoing) = os.pipe(), os.pipe()
    multiplexer = Multiplexer(incoming, outgoing, on_message=lambda kind, number: None)
    for kind, payload in frames:
        multiplexer.receive(frame(kind, 7, payload))
    assert multiplexer.ended is None
    multiplexer.close()
    for descriptor in (incoming, one, other, outgoing):
        os.close(descriptor)
