"""Those who follow a session, or an installation, over HTTP. Each takes a thread, so they are counted."""

from __future__ import annotations

import threading
from collections.abc import Callable

from runicorn_remote.clock import Clock
from runicorn_remote.errors import Busy
from runicorn_remote.services.session_events import Event, SessionEvents

# Seconds after which a silent stream says that it is there: shorter than the patience of any proxy.
KEEP_ALIVE = 15.0
# How soon a client that went away is noticed.
_LOOK_FOR_CLIENT = 1.0
# A client that stopped reading without going away holds a thread no longer than this; others come back.
_LIFETIME = 3600.0


class EventStreams:
    """Thread-safe. Starts no thread: whoever reads a stream waits in it."""

    def __init__(self, clock: Clock, *, limit: int, wake_followers: Callable[[], None]) -> None:
        """`wake_followers` has everybody who waits for events look up; a signal handler may call it."""
        self._wake_followers = wake_followers
        self._clock = clock
        self._places = threading.BoundedSemaphore(limit) if limit else None
        self._closing = False

    def open(
        self, events: SessionEvents, last_id: str | None, client_is_gone: Callable[[], bool]
    ) -> EventStream:
        """Follow events from the one after `last_id`, or from what is kept of their beginning.

        Raises `Busy` over the limit. Close what this returns.
        """
        if self._closing:
            raise Busy("The server is shutting down", code="SHUTTING_DOWN")
        if self._places is None or not self._places.acquire(blocking=False):
            raise Busy("Too many clients follow sessions", code="TOO_MANY_EVENT_STREAMS", retry_after=15)
        return EventStream(events, last_id, self._clock, self._goes_on(client_is_gone), self._places.release)

    def close(self) -> None:
        """End all streams at once, and let no other begin. A signal handler may call it."""
        self._closing = True
        self._wake_followers()

    def _goes_on(self, client_is_gone: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: not (self._closing or client_is_gone())


class EventStream:
    """One client's. An iterator: the next events, or an empty list for "still there". For one thread."""

    def __init__(
        self,
        events: SessionEvents,
        last_id: str | None,
        clock: Clock,
        goes_on: Callable[[], bool],
        release: Callable[[], None],
    ) -> None:
        self._events = events
        self._place = events.place_after(last_id)
        self._clock = clock
        self._goes_on = goes_on
        self._release: Callable[[], None] | None = release
        self._until = clock.monotonic() + _LIFETIME
        self._over = False

    @property
    def has_nothing(self) -> bool:
        """The client has seen the last event."""
        events, _, last = self._events.wait(self._place, 0)
        return last and not events

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> list[Event]:
        now = self._clock.monotonic()
        silent_until = now + KEEP_ALIVE
        while not self._over and self._goes_on() and now < self._until:
            events, self._place, self._over = self._events.wait(
                self._place, min(_LOOK_FOR_CLIENT, max(0.0, silent_until - now))
            )
            now = self._clock.monotonic()
            if events or now >= silent_until:
                return events
        raise StopIteration

    def close(self) -> None:
        """Make room for another client; safe to call again."""
        release, self._release = self._release, None
        if release is not None:
            release()
