"""One attachment of a tunnel to a transport."""

from __future__ import annotations

from typing import Protocol

from .forward_channel import LONG_WIRE_WINDOW, ForwardChannel
from .transport import TunnelTransport

_LONG_WIRE = 0.02  # seconds


class LinkOwner(Protocol):
    """The tunnel, as its links see it. Both return at once. Any thread."""

    def wake_uploads(self, link: Link) -> None:
        """Keys were exchanged, or messages wait for room in the SSH socket."""

    def report_loss(self, link: Link) -> None:
        """The transport has ended. May come twice."""


class Link:
    """A transport and the channels over it. For the tunnel thread, but for the observer's part."""

    def __init__(self, transport: TunnelTransport, destination: tuple[str, int], owner: LinkOwner) -> None:
        self.transport = transport
        self.destination = destination
        self.channels: set[ForwardChannel] = set()
        self.stalled: dict[ForwardChannel, None] = {}  # uploads that wait for the link, longest first
        self._owner = owner
        self._shortest_opening = float("inf")

    def measure(self, channel: ForwardChannel) -> None:
        """Learn from how long `channel` took to open; on a long wire, widen its window."""
        if channel.opened_after is None:
            return
        self._shortest_opening = min(self._shortest_opening, channel.opened_after)
        if self._shortest_opening > _LONG_WIRE:
            channel.widen_window(LONG_WIRE_WINDOW)

    # --- TransportObserver

    def rekeyed(self) -> None:
        """Transport thread."""
        self._owner.wake_uploads(self)

    def backlogged(self) -> None:
        """Any thread."""
        self._owner.wake_uploads(self)

    def link_lost(self) -> None:
        """Any thread."""
        self._owner.report_loss(self)
