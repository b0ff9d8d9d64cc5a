"""The clients, as a process of their own: `python -m benchmarks.load KIND PORT …` prints one JSON object.

bulk PORT STREAMS BYTES       {"rate": MB/s, "stall": ms}; BYTES in all; the longest time without any
upload PORT STREAMS BYTES     {"rate": MB/s}, until the other end has read all
latency PORT COUNT [STOPPED]  {"p50", "p99": ms} of 1 kB requests, one at a time on one connection,
                              beside STOPPED clients that asked for a lot and read nothing
rate PORT CONNECTIONS SECONDS {"rate": requests/s}, each connection has one request under way
new PORT AT_ONCE SECONDS      {"rate": connections/s}: connect, one request, its answer, the end
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

from benchmarks.far_end import BLOCK
from benchmarks.figures import percentile

REQUEST = b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n"
ONCE = b"GET /once HTTP/1.1\r\nHost: localhost\r\n\r\n"
TIMEOUT = 60.0
PATIENCE = 10.0
_STOPPED_BYTES = 1 << 30


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def bulk(port: int, streams: int, size: int) -> dict[str, float]:
    share = size // streams
    received: list[int] = []
    stalls: list[float] = []

    def download(sock: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        sock.sendall(b"GET /bulk/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % share)
        total, stall = 0, 0.0
        before = 0.0  # until the first byte is no stall
        while count := sock.recv_into(buffer):
            now = time.perf_counter()
            stall = max(stall, now - before if before else 0.0)
            before = now
            total += count
        received.append(total)
        stalls.append(stall)

    seconds = _at_once(port, streams, download)
    if len(received) != streams or min(received) < share:
        raise SystemExit(f"a download ended early: {received} of {share} each")
    return {"rate": sum(received) / seconds / 1e6, "stall": max(stalls) * 1000}


def upload(port: int, streams: int, size: int) -> dict[str, float]:
    share = size // streams
    answered: list[bytes] = []

    def send(sock: socket.socket) -> None:
        sock.sendall(
            b"POST /sink/%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (share, share)
        )
        left = share
        while left:
            left -= sock.send(BLOCK[: min(left, len(BLOCK))])
        answered.append(_some(sock))

    seconds = _at_once(port, streams, send)
    if len(answered) != streams or not all(answer.startswith(b"HTTP/1.1 200") for answer in answered):
        raise SystemExit(f"{len(answered)} of {streams} uploads were answered")
    return {"rate": share * streams / seconds / 1e6}


def _at_once(port: int, streams: int, transfer: Callable[[socket.socket], None]) -> float:
    """Run it over so many connections. -> seconds, from when all are open."""
    ready = threading.Barrier(streams + 1)

    def run() -> None:
        with connect(port) as sock:
            ready.wait(TIMEOUT)
            transfer(sock)

    threads = [threading.Thread(target=run) for _ in range(streams)]
    for thread in threads:
        thread.start()
    ready.wait(TIMEOUT)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def latency(port: int, count: int, stopped: int = 0) -> dict[str, float]:
    readers = [connect(port) for _ in range(stopped)]
    for reader in readers:
        reader.sendall(b"GET /bulk/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % _STOPPED_BYTES)
    if readers:
        wait_until_full(readers)
    taken = []
    with connect(port) as sock:
        answer = len(_round_trip(sock))
        for _ in range(count):
            began = time.perf_counter()
            sock.sendall(REQUEST)
            left = answer
            while left:
                data = sock.recv(left)
                if not data:
                    raise SystemExit("the connection was closed")
                left -= len(data)
            taken.append((time.perf_counter() - began) * 1000)
    return {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)}


def rate(port: int, connections: int, seconds: float) -> dict[str, float]:
    with connect(port) as sock:
        answer = len(_round_trip(sock))
    return {"rate": _drive(port, connections, seconds, REQUEST, answer, keep=True)}


def new(port: int, at_once: int, seconds: float) -> dict[str, float]:
    return {"rate": _drive(port, at_once, seconds, ONCE, 0, keep=False)}


def _drive(port: int, number: int, seconds: float, request: bytes, answer: int, *, keep: bool) -> float:
    """-> exchanges a second. With `keep` an answer ends after `answer` bytes, else with its connection."""
    poll = select.epoll() if hasattr(select, "epoll") else select.poll()
    socks: dict[int, socket.socket] = {}
    left: dict[int, int] = {}

    def begin() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(("127.0.0.1", port))
        socks[sock.fileno()], left[sock.fileno()] = sock, answer
        poll.register(sock.fileno(), select.POLLOUT)

    for _ in range(number):
        begin()
    done = 0
    began = time.perf_counter()
    ends = began + seconds
    while time.perf_counter() < ends:
        ready = poll.poll(PATIENCE if hasattr(select, "epoll") else PATIENCE * 1000)
        if not ready:
            raise SystemExit(f"nothing happened for {PATIENCE:g} s")
        for fd, events in ready:
            sock = socks[fd]
            if events & select.POLLOUT:
                sock.send(request)
                poll.modify(fd, select.POLLIN)
                continue
            data = sock.recv(65536)
            if keep:
                if not data:
                    raise SystemExit("a connection was closed")
                left[fd] -= len(data)
                if left[fd] == 0:
                    done += 1
                    left[fd] = answer
                    sock.send(request)
            elif data:
                left[fd] += len(data)
            else:
                if left[fd] < 1000:
                    raise SystemExit(f"a connection ended after {left[fd]} bytes")
                done += 1
                poll.unregister(fd)
                socks.pop(fd).close()
                begin()
    return done / (time.perf_counter() - began)


def _round_trip(sock: socket.socket) -> bytes:
    sock.sendall(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += _some(sock)
    return head + b"\r\n\r\n" + body


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise SystemExit("the connection was closed")
    return data


def wait_until_full(readers: list[socket.socket]) -> None:
    """Until no more arrives for clients that read nothing: what they hold does not grow for 0.2 s."""
    peeked = -1
    pause = threading.Event()
    while True:
        pause.wait(0.2)
        held = sum(len(reader.recv(1 << 23, socket.MSG_PEEK)) for reader in readers)
        if held == peeked:
            return
        peeked = held


KINDS: dict[str, Callable[..., dict[str, float]]] = {
    "bulk": bulk,
    "upload": upload,
    "latency": latency,
    "rate": rate,
    "new": new,
}

if __name__ == "__main__":
    print(json.dumps(KINDS[sys.argv[1]](*map(int, sys.argv[2:]))))
