"""Rough clients, as a process: `python -m benchmarks.torture KIND PORT COUNT` prints one JSON object.

{"right", "of": requests that got the right answer, and all; "damaged": transfers with wrong bytes}

client-ends-first   COUNT uploads whose client ends its side and waits for their SHA-256
server-ends-first   COUNT uploads that go on after the server has answered and ended its side
uploads-cut-off     COUNT clients close or reset in mid-upload; a request after every tenth
churn               COUNT connections of one request each, 16 at once
downloads-reset     COUNT clients reset in mid-download; a request after every fifth
stopped-readers     COUNT requests beside 8 clients that stopped reading, which then read to their end
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.far_end import BLOCK, LAST, LATE
from benchmarks.load import ONCE, connect, wait_until_full

PATIENCE = 15.0
READERS = 8
_UPLOAD = 1 << 20
_BEGIN = 256 << 10
_STOPPED_BYTES = 16 << 20
_ANNOUNCED = 1 << 30
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_ANSWER = b"".join(LAST)


def answers_right(port: int) -> bool:
    """One 1 kB request on a connection of its own."""
    try:
        with _connect(port) as sock:
            sock.sendall(ONCE)
            return _read_all(sock) == _ANSWER
    except OSError:
        return False


def client_ends_first(port: int, count: int) -> dict[str, int]:
    def one(data: bytes) -> bytes:
        with _connect(port) as sock:
            sock.sendall(b"POST /digest HTTP/1.1\r\n\r\n")
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return _read_all(sock)

    return _uploads(count, one)


def server_ends_first(port: int, count: int) -> dict[str, int]:
    def one(data: bytes) -> bytes:
        name = b"%x" % random.getrandbits(64)
        with _connect(port) as sock:
            sock.sendall(b"POST /late/%s HTTP/1.1\r\n\r\n" % name)
            if _read_all(sock) != LATE:
                return b""
            sock.sendall(data)
        ends_at = time.monotonic() + PATIENCE
        pause = threading.Event()
        while time.monotonic() < ends_at:
            with _connect(port) as sock:
                sock.sendall(b"GET /seen/%s HTTP/1.1\r\n\r\n" % name)
                if (seen := _read_all(sock)) != b"wait":
                    return seen
            pause.wait(0.02)
        return b""

    return _uploads(count, one)


def uploads_cut_off(port: int, count: int) -> dict[str, int]:
    def one(number: int) -> None:
        with _connect(port) as sock:
            sock.sendall(b"POST /sink/%d HTTP/1.1\r\n\r\n" % _ANNOUNCED)
            sock.sendall(BLOCK[:_BEGIN])
            if number % 2:
                _reset(sock)

    return _asking_between(port, count, 10, one)


def downloads_reset(port: int, count: int) -> dict[str, int]:
    def one(_: int) -> None:
        with _connect(port) as sock:
            sock.sendall(b"GET /bulk/%d HTTP/1.1\r\n\r\n" % _ANNOUNCED)
            left = _BEGIN
            while left and (data := sock.recv(left)):
                left -= len(data)
            _reset(sock)

    return _asking_between(port, count, 5, one)


def churn(port: int, count: int) -> dict[str, int]:
    with ThreadPoolExecutor(16) as pool:
        right = sum(pool.map(lambda _: answers_right(port), range(count)))
    return {"right": right, "of": count, "damaged": 0}


def stopped_readers(port: int, count: int) -> dict[str, int]:
    readers = [_connect(port) for _ in range(READERS)]
    for reader in readers:
        reader.sendall(b"GET /bulk/%d HTTP/1.1\r\n\r\n" % _STOPPED_BYTES)
    wait_until_full(readers)
    right = sum(answers_right(port) for _ in range(count))
    expected = hashlib.sha256(bytes(BLOCK) * (_STOPPED_BYTES // len(BLOCK))).digest()

    def is_damaged(reader: socket.socket) -> bool:
        try:
            with reader:
                body = _read_all(reader).partition(b"\r\n\r\n")[2]
        except OSError:
            return True
        return hashlib.sha256(body).digest() != expected

    with ThreadPoolExecutor(READERS) as pool:
        damaged = sum(pool.map(is_damaged, readers))
    return {"right": right, "of": count, "damaged": damaged}


def _uploads(count: int, one: Callable[[bytes], bytes]) -> dict[str, int]:
    """Each has other bytes; `one` -> what the server says of them."""
    right = damaged = 0
    for _ in range(count):
        data = random.randbytes(_UPLOAD)
        try:
            answer = one(data)
        except OSError:
            continue
        if answer == b"%d %s" % (len(data), hashlib.sha256(data).hexdigest().encode()):
            right += 1
        else:
            damaged += 1
    return {"right": right, "of": count, "damaged": damaged}


def _asking_between(port: int, count: int, every: int, one: Callable[[int], None]) -> dict[str, int]:
    right = 0
    for number in range(count):
        with contextlib.suppress(OSError):  # the request shows whether it still works
            one(number)
        if number % every == every - 1:
            right += answers_right(port)
    return {"right": right, "of": count // every, "damaged": 0}


def _connect(port: int) -> socket.socket:
    sock = connect(port)
    sock.settimeout(PATIENCE)
    return sock


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


def _read_all(sock: socket.socket) -> bytes:
    chunks = []
    while data := sock.recv(1 << 20):
        chunks.append(data)
    return b"".join(chunks)


KINDS: dict[str, Callable[[int, int], dict[str, int]]] = {
    "client-ends-first": client_ends_first,
    "server-ends-first": server_ends_first,
    "uploads-cut-off": uploads_cut_off,
    "churn": churn,
    "downloads-reset": downloads_reset,
    "stopped-readers": stopped_readers,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](*map(int, sys.argv[2:]))))
