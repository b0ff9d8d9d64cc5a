"""What followers of a session are told, when they come late, and when they come back."""

from __future__ import annotations

import threading

from runicorn_remote.services.session_events import KEPT, SessionEvents


def numbers(events: SessionEvents, place: int = 0) -> list[int]:
    return [event.data.get("n", -1) for event in events.wait(place, 0)[0]]


def test_a_late_follower_gets_what_is_kept() -> None:
    events = SessionEvents()
    assert events.wait(0, 0) == ([], 0, False)
    for n in range(KEPT + 10):
        events.tell({"n": n})
    assert numbers(events) == list(range(10, KEPT + 10))


def test_one_who_comes_back_goes_on_where_it_was() -> None:
    events = SessionEvents()
    for n in range(5):
        events.tell({"n": n})
    third = events.wait(0, 0)[0][2]
    assert third.kind == "session"
    assert numbers(events, events.place_after(third.id)) == [3, 4]
    last = events.wait(0, 0)[0][-1]
    assert numbers(events, events.place_after(last.id)) == []


def test_an_id_that_is_none_of_these_begins_at_the_beginning() -> None:
    events, other = SessionEvents(), SessionEvents()
    for n in range(3):
        events.tell({"n": n})
        other.tell({"n": n})
    (foreign, *_) = other.wait(0, 0)[0]
    mark = events.wait(0, 0)[0][0].id.partition("-")[0]
    for id_ in (None, "", "1", foreign.id, f"{mark}-", f"{mark}-x", f"{mark}--1", f"{mark}-²", "-" * 5000):
        assert events.place_after(id_) == 0, id_
    assert events.place_after(f"{mark}-999") == 3
    assert events.place_after(f"{mark}-{'9' * 500}") == 0


def test_nothing_comes_after_the_end() -> None:
    events = SessionEvents()
    events.tell({"n": 1})
    events.end({"reason": "ended"})
    events.end({"reason": "removed"})
    events.tell({"n": 2})
    told, place, last = events.wait(0, 10)
    assert [(event.kind, event.data) for event in told] == [
        ("session", {"n": 1}),
        ("end", {"reason": "ended"}),
    ]
    assert last
    assert events.wait(place, 10) == ([], 2, True), "at once"


def test_who_waits_is_woken() -> None:
    events = SessionEvents()
    for wake in (events.wake, lambda: events.tell({"n": 1}), lambda: events.end({})):
        place = events.wait(0, 0)[1]
        waiter = threading.Thread(target=events.wait, args=(place, 60), name="waiter")
        waiter.start()
        # Again and again: it may not wait yet.
        while waiter.is_alive():
            wake()
            waiter.join(0.01)
