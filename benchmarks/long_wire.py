"""A long wire: a TCP relay that delays everything, for machines where `tc netem` is not to be had.

    python -m benchmarks.long_wire PORT ROUND_TRIP_MS     prints the port it listens on

Each byte arrives half a round trip later, in both directions; the connection itself costs what TCP's
handshake would: the client may send after one round trip, the server behind is reached after one and
a half. What it does not have: TCP's own windows and slow start over that distance, and loss. So it
shows round trips and SSH's windows truly, and nothing about congestion.
"""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
import sys
import time

CHUNK = 1 << 18
_AFTER = 1e-4  # what is due this soon is due


class Lane:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, starts_at: float) -> None:
        self.source = source
        self.sink = sink
        self.starts_at = starts_at
        self.waiting: collections.deque[tuple[float, memoryview]] = collections.deque()
        self.ended = False  # the source is; an empty chunk waits
        self.shut = False  # the sink is
        self.blocked = False


class LongWire:
    def __init__(self, port: int, round_trip: float) -> None:
        self._port = port
        self._trip = round_trip
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._dials: list[tuple[float, socket.socket]] = []
        self._lanes: list[Lane] = []
        self._ends: dict[socket.socket, tuple[Lane, Lane]] = {}  # socket -> what it reads for, writes for
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            for key, events in self._selector.select(self._patience()):
                if key.fileobj is self._listener:
                    sock, _ = self._listener.accept()
                    self._dials.append((time.monotonic() + 1.5 * self._trip, sock))
                    continue
                incoming, outgoing = key.data
                if events & selectors.EVENT_READ and not incoming.ended:
                    self._take(incoming)
                if events & selectors.EVENT_WRITE:
                    outgoing.blocked = False
            now = time.monotonic() + _AFTER
            while self._dials and self._dials[0][0] <= now:
                self._dial(self._dials.pop(0)[1], now)
            for lane in self._lanes:
                self._give(lane, now)
            self._end_finished()

    def _patience(self) -> float | None:
        due = [lane.waiting[0][0] for lane in self._lanes if lane.waiting and not lane.blocked]
        due += [at for at, _ in self._dials[:1]]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _dial(self, client: socket.socket, now: float) -> None:
        server = socket.create_connection(("127.0.0.1", self._port))
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What the client sent before its handshake could have ended has come as far as it would have.
        up, down = Lane(client, server, now), Lane(server, client, now)
        self._lanes += [up, down]
        self._ends[client], self._ends[server] = (up, down), (down, up)
        self._watch(up)
        early = b""
        with contextlib.suppress(BlockingIOError):
            early = client.recv(CHUNK)
        if early:
            up.waiting.append((now, memoryview(early)))

    def _take(self, lane: Lane) -> None:
        try:
            data = lane.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            lane.ended = True
        lane.waiting.append((time.monotonic() + self._trip / 2, memoryview(data)))
        self._watch(lane)

    def _give(self, lane: Lane, now: float) -> None:
        try:
            while lane.waiting and lane.waiting[0][0] <= now and not lane.blocked:
                due, data = lane.waiting[0]
                if not len(data):
                    lane.shut = True
                    lane.waiting.clear()
                    lane.sink.shutdown(socket.SHUT_WR)
                    return
                sent = lane.sink.send(data)
                if sent == len(data):
                    lane.waiting.popleft()
                else:
                    lane.waiting[0] = (due, data[sent:])
        except BlockingIOError:
            lane.blocked = True
            self._watch(lane)
        except OSError:
            lane.ended = lane.shut = True
            lane.waiting.clear()

    def _watch(self, lane: Lane) -> None:
        """Both sockets of a lane, for what is still of interest."""
        for sock in (lane.source, lane.sink):
            incoming, outgoing = self._ends[sock]
            events = 0 if incoming.ended else selectors.EVENT_READ
            events |= selectors.EVENT_WRITE if outgoing.blocked else 0
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            if events:
                self._selector.register(sock, events, (incoming, outgoing))

    def _end_finished(self) -> None:
        for lane in [lane for lane in self._lanes if lane.shut]:
            incoming, outgoing = self._ends.get(lane.sink, (lane, lane))
            if not (incoming.shut and outgoing.shut):
                continue
            for sock in (lane.source, lane.sink):
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(sock)
                self._ends.pop(sock, None)
                sock.close()
            self._lanes = [each for each in self._lanes if each not in (incoming, outgoing)]


if __name__ == "__main__":
    wire = LongWire(int(sys.argv[1]), float(sys.argv[2]) / 1000)
    print(wire.port, flush=True)
    wire.run()
