"""All sessions by their id: listed, limited, forgotten, and remembered on disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from runicorn_remote.errors import Busy, SessionNotFound
from runicorn_remote.services.session_fields import CONNECTING, ENDED
from runicorn_remote.services.session_store import SessionStore
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.tunnel import TunnelCounters


class SessionRegistry:
    """Thread-safe. Its lock is held for dictionary work only; nothing here asks a host."""

    def __init__(self, store: SessionStore, *, limit: int, keep_ended: float) -> None:
        """`limit`: sessions at a time. `keep_ended`: seconds after which an ended one is forgotten."""
        self._store = store
        self._limit = limit
        self._keep_ended = keep_ended
        self._lock = threading.Lock()
        self._sessions: dict[str, ViewerSession] = {}
        # What went through the tunnels of sessions that are gone.
        self._past = TunnelCounters(0, 0, 0, 0)
        self._closed = False
        # What the disk does not have yet; tried again by `prune`.
        self._unsaved = threading.Event()
        self._saving = threading.Lock()

    # --- coming and going

    def make_room(self) -> None:
        """At the limit, forget the session that ended by itself longest ago; `Busy` if there is none."""
        sessions = self.sessions()
        if len(sessions) < self._limit:
            return
        ended = [session for session in sessions if session.status in ENDED]
        if ended:
            self.forget(max(ended, key=lambda session: session.ended_for))
        if len(self.sessions()) >= self._limit:
            raise Busy(
                "The limit of viewers is reached; stop one first", code="TOO_MANY_VIEWERS", retry_after=30
            )

    def add(self, session: ViewerSession) -> None:
        """List it. Raises `Busy` after `close`."""
        with self._lock:
            if self._closed:
                raise Busy("The server is shutting down", code="SHUTTING_DOWN")
            self._sessions[session.id] = session

    def add_restored(self, sessions: Iterable[ViewerSession]) -> None:
        """List those of an earlier server, however many there are."""
        with self._lock:
            self._sessions.update({session.id: session for session in sessions})

    def forget(self, session: ViewerSession) -> None:
        """List it no longer: nothing of it is left. Whoever waits for that wakes."""
        with self._lock:
            known = self._sessions.pop(session.id, None) is not None
            if known and session.tunnel is not None:
                self._past += replace(session.tunnel.counters(), open_connections=0)
        session.gone.set()
        session.over("removed")

    def prune(self) -> None:
        """Forget sessions that ended by themselves long ago; write what could not be written before."""
        for session in self.sessions():
            if session.status in ENDED and session.ended_for > self._keep_ended:
                self.forget(session)
        if self._unsaved.is_set():
            self.remember()

    def remember(self) -> None:
        """Write the sessions to disk. A disk that is full costs nothing but the memory."""
        with self._saving:
            records = [record for session in self.sessions() if (record := session.record()) is not None]
            if self._store.save(records):
                self._unsaved.clear()
            else:
                self._unsaved.set()

    def close(self) -> None:
        """Take no other session; those that are listed stay."""
        with self._lock:
            self._closed = True

    # --- looking

    def get(self, session_id: str) -> ViewerSession:
        """Raises `SessionNotFound`."""
        with self._lock:
            session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFound(session_id if session_id.isprintable() and len(session_id) <= 100 else "?")
        return session

    def sessions(self) -> list[ViewerSession]:
        with self._lock:
            return list(self._sessions.values())

    def snapshots(self) -> list[dict[str, Any]]:
        """All sessions in the API's shape, starting ones included."""
        return [session.snapshot() for session in self.sessions()]

    def snapshots_json(self) -> list[str]:
        """The same, each as JSON text."""
        return [session.snapshot_json() for session in self.sessions()]

    def census(self) -> tuple[list[ViewerSession], TunnelCounters]:
        """All sessions, and what went through tunnels since the start, ended ones included."""
        with self._lock:
            sessions, total = list(self._sessions.values()), self._past
        for session in sessions:
            if session.tunnel is not None:
                total += session.tunnel.counters()
        return sessions, total

    # --- at the end of the server; a signal handler may call these, so they take no lock of ours

    def cancel_starts(self) -> None:
        """Make starts that are under way end soon. Only sets flags."""
        for session in list(self._sessions.values()):
            if session.status == CONNECTING:
                session.cancelled.set()

    def wake_followers(self) -> None:
        """Have all who wait for events look up."""
        for session in list(self._sessions.values()):
            session.events.wake()
