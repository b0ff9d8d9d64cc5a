"""A client that still sends when nobody will read it is not reset."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from runicorn_remote.ssh.deadlines import earliest
from runicorn_remote.ssh.event_loop import EventLoop
from runicorn_remote.ssh.lingering import Lingering
from tests.ssh.tunnel_kit import TIMEOUT, is_reset


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, non-blocking, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=TIMEOUT)
        ours, _ = listener.accept()
    ours.setblocking(False)
    with ours, client:
        yield ours, client


def test_it_may_send_on_and_gets_its_answer(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, client = pair
    lingering = Lingering(loop)
    ours.send(b"answer")
    client.sendall(b"unread: to close now would reset the connection")
    lingering.add(ours)
    for _ in range(5):
        client.sendall(b"more")
        loop.turn(TIMEOUT)
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""
    client.close()
    while ours.fileno() >= 0:
        loop.turn(TIMEOUT)
    assert earliest(lingering.deadlines) is None


def test_not_for_ever(loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    lingering = Lingering(loop)
    lingering.add(ours)
    deadline = earliest(lingering.deadlines)
    assert deadline is not None
    assert deadline > time.monotonic()
    lingering.expire(deadline)
    assert ours.fileno() < 0
    assert not is_reset(client)
