"""The thread of a tunnel: accepts, uploads, what a socket would not take at once, and all closing.

It never waits for anything but its event loop. Other threads hand it work with `post` and `wake`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from .deadlines import Deadlines, earliest
from .event_loop import READ, WRITE, EventLoop
from .forward_channel import ForwardChannel, Progress
from .lingering import Lingering
from .link import Link
from .reception import Reception
from .traffic import Traffic
from .transport import TunnelTransport

log = logging.getLogger(__name__)


class Forwarder(threading.Thread):
    """Owned by a `Tunnel`, which starts it and, with `finish`, ends it."""

    def __init__(
        self,
        name: str,
        listeners: list[socket.socket],
        traffic: Traffic,
        *,
        max_connections: int,
        channel_timeout: float,
        hold_timeout: float,
        hold_limit: int,
        accept_hook: Callable[[socket.socket], bool] | None,
        on_link_lost: Callable[[TunnelTransport], None] | None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._traffic = traffic
        self._on_link_lost = on_link_lost
        self._running = True
        self._loop = EventLoop()
        self._link: Link | None = None
        self._link_descriptor: int | None = None  # watched while uploads wait for room in the SSH socket
        self._opening: Deadlines[ForwardChannel] = Deadlines(channel_timeout)
        self._lingering = Lingering(self._loop)
        self._reception = Reception(
            name,
            listeners,
            self._loop,
            traffic,
            self._open,
            max_connections=max_connections,
            hold_timeout=hold_timeout,
            hold_limit=hold_limit,
            accept_hook=accept_hook,
        )
        self._deadlines = (self._opening, *self._lingering.deadlines, *self._reception.deadlines)
        self.post = self._loop.post  # any thread
        self.received = traffic.received  # ChannelOwner; transport and tunnel thread
        self.sent = traffic.sent  # ChannelOwner; tunnel thread

    # --- any thread

    def wake(self, channel: ForwardChannel) -> None:
        self.post(partial(self._serve, channel))

    def wake_uploads(self, link: Link) -> None:
        self.post(partial(self._resume_uploads, link))

    def report_loss(self, link: Link) -> None:
        self.post(partial(self._lose, link))

    def close_listeners(self) -> None:
        """Free the port, whatever the thread is doing."""
        self._reception.close()

    def close_unstarted(self) -> None:
        """Instead of `finish` when the thread was never started."""
        self._reception.close()
        self._loop.close()

    # --- tunnel thread: the loop

    def run(self) -> None:
        try:
            self._reception.open()
            while self._running:
                end = earliest(self._deadlines)
                self._loop.turn(None if end is None else max(0.0, end - time.monotonic()))
                if end is not None and end <= time.monotonic():
                    self._expire(time.monotonic())
                self._send_held()
        except Exception:
            log.exception("%s: ended by an unexpected error", self.name)
        finally:
            self._tear_down()

    def finish(self) -> None:
        """Posted: end the thread."""
        self._running = False

    def _expire(self, now: float) -> None:
        for channel in self._opening.take_expired(now):
            log.info("%s: the remote host did not answer a new connection in time", self.name)
            self._drop(channel, reset=True)
        self._lingering.expire(now)
        self._reception.expire(now)

    def _tear_down(self) -> None:
        self._reception.close()
        self._reception.turn_away_held()
        self._lingering.end_all()
        self.detach()
        self._loop.close()

    # --- tunnel thread: the link

    def attach(self, link: Link) -> None:
        """Posted: forward over `link` from now on."""
        self.detach()
        self._link = link
        link.transport.add_observer(link)
        self._reception.serve_held()

    def detach(self) -> None:
        """Posted: reset all connections; new ones wait."""
        link, self._link = self._link, None
        if link is None:
            return
        link.transport.remove_observer(link)
        self._unwatch_link()
        for channel in link.channels:  # first what clients see, then what may have to wait for the network
            self._cut(channel, reset=True)
        for channel in link.channels:
            channel.hang_up()
        link.transport.flush()

    def _lose(self, link: Link) -> None:
        if link is not self._link:
            return
        self.detach()
        if self._on_link_lost is not None:
            try:
                self._on_link_lost(link.transport)
            except Exception:
                log.exception("%s: on_link_lost failed", self.name)

    # --- tunnel thread: what waits for the link to have room

    def _send_held(self) -> None:
        """What one turn has to send goes out with one system call."""
        link = self._link
        if link is not None:
            link.transport.flush()
            if link.transport.is_backlogged:
                self._watch_link(link)

    def _stall(self, link: Link, channel: ForwardChannel) -> None:
        link.stalled[channel] = None
        self._watch_link(link)

    def _resume_uploads(self, link: Link) -> None:
        if link is not self._link:
            return
        self._unwatch_link()
        link.transport.flush()
        while link.stalled and link.transport.can_carry_data():
            channel = next(iter(link.stalled))
            del link.stalled[channel]
            self._serve(channel)
        self._watch_link(link)

    def _watch_link(self, link: Link) -> None:
        """Come back when the SSH socket has room, if anything waits for that.

        During a key exchange nothing does; `rekeyed` will come. Without a descriptor, neither: what
        carries us is a jump host's channel, and it waits by itself.
        """
        descriptor = link.transport.socket_descriptor()
        if link.transport.is_backlogged and descriptor is not None and descriptor >= 0:
            if self._link_descriptor is None:
                self._link_descriptor = descriptor
                self._loop.watch(descriptor, WRITE, partial(self._resume_uploads, link))
        elif link.stalled and link.transport.can_carry_data():
            self.wake_uploads(link)

    def _unwatch_link(self) -> None:
        if self._link_descriptor is not None:
            self._loop.unwatch(self._link_descriptor)
            self._link_descriptor = None

    # --- tunnel thread: one connection

    def _open(self, sock: socket.socket) -> bool:
        """-> False: there is no link."""
        link = self._link
        if link is None:
            return False
        try:
            host, port = sock.getpeername()[:2]
        except OSError:  # gone already
            host, port = "127.0.0.1", 0
        channel = link.transport.open_forward(self, sock, link.destination, (host, port), hold=True)
        link.channels.add(channel)
        self._opening.add(channel)
        return True

    def _serve(self, channel: ForwardChannel) -> None:
        """Do whatever can be done for this connection now."""
        link = self._link
        if link is None or channel not in link.channels:
            return
        if channel in self._opening and not self._has_opened(link, channel):
            return
        try:
            channel.flush()
            progress = channel.upload()
        except OSError:
            self._drop(channel, reset=True)
            return
        if channel.is_finished:
            self._drop(channel, reset=False)
            return
        if progress is Progress.STALLED:
            self._stall(link, channel)
        else:
            link.stalled.pop(channel, None)
        self._watch_channel(link, channel)

    def _has_opened(self, link: Link, channel: ForwardChannel) -> bool:
        if channel.refused:
            self._drop(channel, reset=True)  # so that the client fails at once
            return False
        if channel.opened_after is None:
            return False
        self._opening.discard(channel)
        link.measure(channel)
        return True

    def _watch_channel(self, link: Link, channel: ForwardChannel) -> None:
        reads = READ if channel.wants_read and channel not in link.stalled else 0
        mask = reads | (WRITE if channel.wants_write else 0)
        if mask != channel.watched:
            channel.watched = mask
            self._loop.watch(channel.sock, mask, partial(self._serve, channel))

    def _drop(self, channel: ForwardChannel, *, reset: bool) -> None:
        """End a connection and forget it."""
        self._cut(channel, reset=reset)
        channel.hang_up()
        if self._link is not None:
            self._link.channels.discard(channel)
            self._link.stalled.pop(channel, None)

    def _cut(self, channel: ForwardChannel, *, reset: bool) -> None:
        """End its local side."""
        self._opening.discard(channel)
        self._loop.unwatch(channel.sock)
        self._traffic.closed()
        if reset or channel.local_eof:
            channel.cut(reset=reset)
        else:
            self._lingering.add(channel.abandon_socket())
