"""Requests with a key: what is done once, and what again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runicorn_remote.errors import (
    AuthenticationFailed,
    Busy,
    Conflict,
    IdempotencyKeyReused,
    SessionNotFound,
    StartCancelled,
)
from runicorn_remote.services import idempotency
from runicorn_remote.services.idempotency import IdempotentStarts
from tests.services.test_viewer_session import ManualClock


class Sessions:
    """Starts sessions, numbered; shows those that are not gone."""

    def __init__(self) -> None:
        self.started = 0
        self.gone: set[str] = set()

    def start(self) -> dict[str, Any]:
        self.started += 1
        return {"sessionId": str(self.started), "status": "running"}

    def show(self, session_id: str) -> dict[str, Any]:
        if session_id in self.gone:
            raise SessionNotFound(session_id)
        return {"sessionId": session_id, "status": "degraded"}


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def starts(sessions: Sessions, clock: ManualClock) -> IdempotentStarts:
    return IdempotentStarts(clock, sessions.show, patience=10)


def raising(error: BaseException) -> Callable[[], dict[str, Any]]:
    def start() -> dict[str, Any]:
        raise error

    return start


def test_a_repetition_is_the_first_ones_session_as_it_is_now(
    starts: IdempotentStarts, sessions: Sessions
) -> None:
    assert starts.once("k", b"{}", sessions.start) == {"sessionId": "1", "status": "running"}
    assert starts.once("k", b"{}", sessions.start) == {"sessionId": "1", "status": "degraded"}
    assert starts.once("other", b"{}", sessions.start)["sessionId"] == "2"


def test_another_request_with_the_key_is_refused(starts: IdempotentStarts, sessions: Sessions) -> None:
    starts.once("k", b'{"host": "a"}', sessions.start)
    with pytest.raises(IdempotencyKeyReused):
        starts.once("k", b'{"host": "b"}', sessions.start)
    assert sessions.started == 1


def test_nothing_of_a_request_is_kept(starts: IdempotentStarts, sessions: Sessions) -> None:
    starts.once("k", b"hunter2", sessions.start)
    assert "hunter2" not in repr(vars(starts))
    other = IdempotentStarts(ManualClock(), sessions.show, patience=1)
    other.once("k", b"hunter2", sessions.start)
    assert starts._first["k"].fingerprint != other._first["k"].fingerprint, "no hash to look up elsewhere"


def test_after_a_failure_the_key_is_free(starts: IdempotentStarts, sessions: Sessions) -> None:
    for error in (AuthenticationFailed("no"), Busy("later"), ValueError("a bug"), SystemExit(0)):
        with pytest.raises(type(error)):
            starts.once("k", b"{}", raising(error))
    assert starts.once("k", b"another body", sessions.start)["sessionId"] == "1"


def test_what_was_stopped_is_not_started_again(starts: IdempotentStarts, sessions: Sessions) -> None:
    with pytest.raises(StartCancelled):
        starts.once("cancelled", b"{}", raising(StartCancelled("it was stopped")))
    with pytest.raises(StartCancelled):
        starts.once("cancelled", b"{}", sessions.start)
    starts.once("stopped", b"{}", sessions.start)
    sessions.gone.add("1")
    with pytest.raises(Conflict) as refused:
        starts.once("stopped", b"{}", sessions.start)
    assert refused.value.code == "IDEMPOTENCY_KEY_SPENT"
    assert sessions.started == 1


@pytest.mark.parametrize("error", [None, AuthenticationFailed("no")])
def test_repetitions_wait_for_a_start_that_is_under_way(
    starts: IdempotentStarts, sessions: Sessions, error: Exception | None
) -> None:
    under_way, go_on = threading.Event(), threading.Event()

    def start() -> dict[str, Any]:
        under_way.set()
        assert go_on.wait(20)
        return sessions.start() if error is None else raising(error)()

    with ThreadPoolExecutor(5) as executor:
        first = executor.submit(starts.once, "k", b"{}", start)
        assert under_way.wait(20)
        others = [executor.submit(starts.once, "k", b"{}", sessions.start) for _ in range(4)]
        with pytest.raises(IdempotencyKeyReused):
            starts.once("k", b"another", sessions.start)
        assert not any(other.done() for other in others)
        go_on.set()
        if error is None:
            assert {answer.result(20)["sessionId"] for answer in (first, *others)} == {"1"}
        else:
            # One that came too late to wait has started another, and rightly.
            assert isinstance(first.exception(20), AuthenticationFailed)


def test_a_repetition_does_not_wait_for_ever(sessions: Sessions, clock: ManualClock) -> None:
    starts = IdempotentStarts(clock, sessions.show, patience=0.05)
    go_on = threading.Event()

    def start() -> dict[str, Any]:
        assert go_on.wait(20)
        return sessions.start()

    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(starts.once, "k", b"{}", start)
        while not starts._first:
            go_on.wait(0.001)
        with pytest.raises(Busy):
            starts.once("k", b"{}", sessions.start)
        go_on.set()
        assert first.result(20)["sessionId"] == "1"


def test_keys_are_forgotten_after_a_day(
    starts: IdempotentStarts, sessions: Sessions, clock: ManualClock
) -> None:
    starts.once("k", b"{}", sessions.start)
    clock.now += idempotency.TTL - 1
    assert starts.once("k", b"{}", sessions.start)["sessionId"] == "1"
    clock.now += 2
    assert starts.once("k", b"{}", sessions.start)["sessionId"] == "2"


def test_the_oldest_of_too_many_keys_are_forgotten(starts: IdempotentStarts, sessions: Sessions) -> None:
    for number in range(idempotency.MOST + 5):
        starts.once(f"key-{number}", b"{}", sessions.start)
    assert len(starts._first) == idempotency.MOST
    assert starts.once("key-5", b"{}", sessions.start)["sessionId"] == "6"
    assert starts.once("key-4", b"{}", sessions.start)["sessionId"] not in ("5", "6")
