"""Threads of one owner: what they are given, what becomes of their errors, and how they are waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.services.thread_group import ThreadGroup

SOON = 30.0
request: ContextVar[str] = ContextVar("request", default="none")


@pytest.fixture
def group() -> Iterator[ThreadGroup]:
    group = ThreadGroup(Clock())
    yield group
    group.close()
    group.join(SOON)


def test_it_has_the_name_the_arguments_and_the_context_of_who_began_it(group: ThreadGroup) -> None:
    seen: list[object] = []

    def work(*arguments: object) -> None:
        seen.extend((threading.current_thread().name, threading.current_thread().daemon))
        seen.extend((request.get(), arguments))

    token = request.set("r1")
    assert group.start("sweep-gpu1", work, 1, "two")
    request.reset(token)
    group.join(SOON)
    assert seen == ["sweep-gpu1", True, "r1", (1, "two")]


def test_an_error_is_logged_and_harms_no_other(group: ThreadGroup, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("on purpose")

    assert group.start("restart-1", fail)
    assert group.start("restart-2", done.set)
    group.join(SOON)
    assert done.is_set()
    (record,) = caplog.records
    assert record.getMessage() == "restart-1 ended by an unexpected error"
    assert record.exc_info


def test_join_waits_no_longer_than_it_may_and_for_all_that_run(group: ThreadGroup) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(SOON)
        over.set()

    assert group.start("slow", work)
    assert begun.wait(SOON)
    group.join(0.01)
    assert not over.is_set()
    go_on.set()
    group.join(SOON)
    assert over.is_set()


def test_none_is_started_after_the_end(group: ThreadGroup) -> None:
    done = threading.Event()
    group.close()
    assert not group.start("late", done.set)
    group.join(SOON)
    assert not done.is_set()


def test_a_thread_that_cannot_be_started_is_not_waited_for(
    group: ThreadGroup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert not group.start("one-too-many", done.set)
    assert "one-too-many: no thread can be started: can't start new thread" in caplog.text
    group.join(SOON)  # would raise on a thread that never began
    assert group.start("now", done.set)
    assert done.wait(SOON)
