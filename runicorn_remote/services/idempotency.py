"""A start that is repeated with the same `Idempotency-Key` is the first one's, not another.

After draft-ietf-httpapi-idempotency-key-header-07, with these choices where it leaves one:

* A repetition of a start that is under way waits for it and gets its answer.
* A start that failed has left nothing behind, so its key is free: a repetition starts again. One that
  somebody stopped keeps it: no client that retries by itself brings back what a person has ended.
* Keys live in memory for a day, at most a thousand of them.

Of a request nothing is kept but a hash under a key of this process's own: it may hold a password.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    Busy,
    Conflict,
    IdempotencyKeyReused,
    SessionNotFound,
    StartCancelled,
)

# Seconds a key is remembered, and how many are.
TTL = 24 * 3600.0
MOST = 1000


@dataclass(frozen=True)
class _First:
    """The first request with a key. `session_id` holds the start's outcome once there is one."""

    fingerprint: bytes
    at: float
    session_id: Future[str] = field(default_factory=Future)

    def is_old(self, now: float) -> bool:
        return self.session_id.done() and now - self.at > TTL


class IdempotentStarts:
    """Thread-safe. The lock guards the dictionary and is never held while a start runs."""

    def __init__(self, clock: Clock, show: Callable[[str], dict[str, Any]], *, patience: float) -> None:
        """`show`: a session's snapshot by its id. `patience`: seconds a repetition waits for the first."""
        self._clock = clock
        self._show = show
        self._patience = patience
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        # In the order of their beginning.
        self._first: dict[str, _First] = {}

    def once(self, key: str, request: bytes, start: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `start` returns, a snapshot, or the session it has started before as it is now.

        Raises what `start` raises; `IdempotencyKeyReused` if the key came with another request;
        `Conflict` if its session is gone; `Busy` if the first request takes too long.
        """
        first, known = self._claim(key, hmac.digest(self._secret, request, hashlib.sha256))
        if known:
            return self._again(first)
        try:
            session = start()
        except StartCancelled as error:
            first.session_id.set_exception(error)
            raise
        except BaseException as error:
            with self._lock:
                self._first.pop(key, None)
            ours = isinstance(error, Exception)
            first.session_id.set_exception(error if ours else Busy("The start was interrupted"))
            raise
        first.session_id.set_result(session["sessionId"])
        return session

    def _claim(self, key: str, fingerprint: bytes) -> tuple[_First, bool]:
        """-> the first request with the key, and whether that is an earlier one."""
        now = self._clock.monotonic()
        with self._lock:
            first = self._first.get(key)
            if first is None or first.is_old(now):
                self._make_room(now)
                first = self._first[key] = _First(fingerprint, now)
                return first, False
        if not hmac.compare_digest(first.fingerprint, fingerprint):
            raise IdempotencyKeyReused()
        return first, True

    def _again(self, first: _First) -> dict[str, Any]:
        try:
            return self._show(first.session_id.result(self._patience))
        except TimeoutError as error:
            raise Busy("The first request with this Idempotency-Key is still under way") from error
        except SessionNotFound as error:
            raise Conflict(
                "The viewer that was started with this Idempotency-Key is gone; use another key",
                code="IDEMPOTENCY_KEY_SPENT",
            ) from error

    def _make_room(self, now: float) -> None:
        """For one more: forget the oldest of those that are done, if need be."""
        too_many = len(self._first) - MOST + 1
        done = [(key, first) for key, first in self._first.items() if first.session_id.done()]
        for place, (key, first) in enumerate(done):
            if place < too_many or first.is_old(now):
                del self._first[key]
