"""The states of a session, and who wins when two things happen at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.errors import AuthenticationFailed
from runicorn_remote.services.session_fields import ERROR, STOPPED, RemoteProcess
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel

LIMITS = {"limit": 2, "within": 100.0}


class ManualClock(Clock):
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000 + self.now


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make(clock: Clock) -> ViewerSession:
    return ViewerSession.new(
        "0123456789abcdef",
        Target("gpu1", 2222, "me"),
        None,
        local_port=40000,
        remote_root="~/data",
        environment=None,
        remote_port=None,
        clock=clock,
    )


@pytest.fixture
def session(clock: ManualClock) -> ViewerSession:
    return make(clock)


def run(session: ViewerSession) -> ViewerSession:
    session.prepared(remote_root="/home/me/data", environment="r72", runicorn_version="0.7.2")
    session.launched(RemoteProcess(4711, "123", 23300, "/home/me/.local/state/x"))
    assert session.ready()
    return session


# How a session gets into each state.
STATES: dict[str, Callable[[ViewerSession], object]] = {
    "connecting": lambda session: None,
    "running": run,
    "degraded": lambda session: run(session).deaf(1),
    "reconnecting": lambda session: run(session).lost("the link is lost", "LINK_LOST"),
    "disconnected": lambda session: (
        run(session).lost("the link is lost", "LINK_LOST") and session.give_up("refused", "AUTH_FAILED")
    ),
    "stopping": lambda session: run(session).begin_stop(),
    "stopped": lambda session: run(session).end(STOPPED, "idle", "IDLE_EXIT"),
    "error": lambda session: run(session).end(ERROR, "crashed", "VIEWER_CRASHED"),
}
# What happens -> the states it takes effect in, and the state after it. Elsewhere nothing changes.
EVENTS: dict[str, tuple[Callable[[ViewerSession], object], dict[str, str]]] = {
    "ready": (ViewerSession.ready, {"connecting": "running", "reconnecting": "running"}),
    "healthy": (ViewerSession.healthy, {"running": "running", "degraded": "running"}),
    "deaf": (lambda session: session.deaf(1), {"running": "degraded", "degraded": "degraded"}),
    "lost": (
        lambda session: session.lost("gone", "LINK_LOST"),
        {"running": "reconnecting", "degraded": "reconnecting"},
    ),
    "give_up": (lambda session: session.give_up("no", "X"), {"reconnecting": "disconnected"}),
    "resumed": (
        lambda session: session.resumed(),
        {"disconnected": "reconnecting", "reconnecting": "reconnecting"},
    ),
    "reconnected": (ViewerSession.reconnected, {"reconnecting": "running"}),
    "crashed": (
        lambda session: session.crashed("died", **LIMITS),  # type: ignore[arg-type]
        dict.fromkeys(("running", "degraded", "reconnecting"), "reconnecting"),
    ),
    "end": (
        lambda session: session.end(ERROR, "died", "X"),
        dict.fromkeys(("running", "degraded", "reconnecting"), "error"),
    ),
    "begin_stop": (
        ViewerSession.begin_stop,
        {state: "stopping" for state in STATES if state not in ("connecting", "stopping")},
    ),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_every_event_in_every_state(session: ViewerSession, state: str, event: str) -> None:
    STATES[state](session)
    assert session.status == state
    assert json.loads(session.snapshot_json()) == session.snapshot()
    happen, changes = EVENTS[event]
    answer = happen(session)
    assert session.status == changes.get(state, state)
    if isinstance(answer, bool):
        assert answer is (state in changes)
    assert session.snapshot()["status"] == session.status
    assert session.snapshot()["isActive"] is (session.status in ("running", "degraded"))
    assert json.loads(session.snapshot_json()) == session.snapshot()


def test_the_text_of_a_session_follows_what_changes_by_itself(
    session: ViewerSession, clock: ManualClock
) -> None:
    run(session)
    before = json.loads(session.snapshot_json())
    clock.now += 1.25
    after = json.loads(session.snapshot_json())
    assert after == session.snapshot() == {**before, "uptimeSeconds": 1.25}
    with Tunnel("t", local_port=None, max_connections=1, channel_timeout=1.0) as session.tunnel:
        session.tunnel._traffic.received(5)
        assert json.loads(session.snapshot_json()) == session.snapshot()
        assert json.loads(session.snapshot_json())["tunnel"]["bytesIn"] == 5


def test_the_text_of_a_session_is_json_whatever_a_host_says(clock: ManualClock) -> None:
    session = make(clock)
    session.prepared(remote_root='/a"b\\\ud800\n{%s}', environment="Größe", runicorn_version=None)
    assert json.loads(session.snapshot_json()) == session.snapshot()


def test_a_session_that_starts(session: ViewerSession, clock: ManualClock) -> None:
    shown = session.snapshot()
    assert (shown["phase"], shown["remotePid"], shown["remotePort"]) == ("connecting", None, None)
    session.set_phase("preparing")
    session.prepared(remote_root="/home/me/data", environment="r72", runicorn_version=None)
    assert session.snapshot()["phase"] == "launching"
    session.launched(RemoteProcess(4711, "123", 23300, "/x"))
    assert session.snapshot()["phase"] == "waiting"
    clock.now += 2.5
    assert session.ready()
    shown = session.snapshot()
    expected = {
        "sessionId": "0123456789abcdef",
        "host": "gpu1",
        "sshPort": 2222,
        "username": "me",
        "localPort": 40000,
        "remotePort": 23300,
        "remotePid": 4711,
        "remoteRoot": "/home/me/data",
        "condaEnv": "r72",
        "runicornVersion": None,
        "phase": "ready",
        "url": "http://localhost:40000",
        "uptimeSeconds": 2.5,
        "lastHealthyAt": clock.time_ms(),
        "error": None,
        "errorCode": None,
        "errorDetail": None,
    }
    assert {name: shown[name] for name in expected} == expected


def test_the_phases_of_a_start_and_what_they_took(session: ViewerSession, clock: ManualClock) -> None:
    began = clock.time_ms()
    clock.now += 0.5
    session.set_phase("preparing")
    clock.now += 1
    session.prepared(remote_root="/home/me/data", environment="r72", runicorn_version=None)
    session.launched(RemoteProcess(4711, "123", 23300, "/x"))
    clock.now += 2
    session.launched(RemoteProcess(4712, "124", 23301, "/x"))  # another process had the port
    clock.now += 2
    assert session.snapshot()["phases"][-1] == {
        "name": "waiting",
        "startedAt": began + 1500,
        "seconds": None,
    }
    session.ready()
    clock.now += 60
    assert session.snapshot()["phases"] == [
        {"name": "connecting", "startedAt": began, "seconds": 0.5},
        {"name": "preparing", "startedAt": began + 500, "seconds": 1.0},
        {"name": "launching", "startedAt": began + 1500, "seconds": 0.0},
        {"name": "waiting", "startedAt": began + 1500, "seconds": 4.0},
        {"name": "ready", "startedAt": began + 5500, "seconds": None},
    ]
    session.prepared(remote_root="/home/me/data", environment="r72", runicorn_version=None)
    assert [phase["name"] for phase in session.snapshot()["phases"]] == ["launching"], "a start of its own"


def test_a_start_that_nobody_waits_for_says_why_it_failed(session: ViewerSession, clock: ManualClock) -> None:
    clock.now += 3
    assert session.start_failed(AuthenticationFailed("the host takes none of the keys"))
    shown = session.snapshot()
    assert (shown["status"], shown["errorCode"], shown["errorDetail"]) == ("error", "AUTH_FAILED", None)
    assert shown["error"] == "Connection failed: the host takes none of the keys"
    assert shown["phases"][-1]["seconds"] == 3.0
    clock.now += 5
    assert session.ended_for == 5
    assert session.begin_stop(), "it can be taken off the list"


def test_a_start_that_was_stopped_does_not_fail(session: ViewerSession) -> None:
    assert not session.begin_stop()
    assert not session.start_failed(AuthenticationFailed("no"))
    assert session.status == "connecting"


def test_a_viewer_is_deaf_only_after_several_times_in_a_row(session: ViewerSession) -> None:
    run(session)
    for _ in range(3):
        session.deaf(2)
        assert session.status == "running"
        session.healthy()
    session.deaf(2)
    session.deaf(2)
    assert session.status == "degraded"
    assert session.error_code == "VIEWER_NOT_ANSWERING"
    session.healthy()
    assert (session.status, session.error_code) == ("running", None)


def test_crashes_are_counted_within_a_time(session: ViewerSession, clock: ManualClock) -> None:
    run(session)
    for _ in range(5):
        assert session.crashed("died", **LIMITS)  # type: ignore[arg-type]
        assert session.restarting
        assert session.ready()
        clock.now += 60
    assert session.snapshot()["restarts"] == 5
    assert session.crashed("died", **LIMITS)  # type: ignore[arg-type]
    assert session.ready()
    assert not session.crashed("died", **LIMITS), "the third within the time"  # type: ignore[arg-type]
    assert session.status == "running", "whoever was told so ends it"


def test_no_restart_at_all(session: ViewerSession) -> None:
    run(session)
    assert not session.crashed("died", limit=0, within=100.0)


def test_a_viewer_that_is_being_restarted_is_not_restarted_again(session: ViewerSession) -> None:
    run(session)
    assert session.crashed("died", **LIMITS)  # type: ignore[arg-type]
    assert not session.crashed("died", **LIMITS)  # type: ignore[arg-type]
    assert not session.resumed(), "nor resumed meanwhile"
    session.restart_failed()
    assert session.resumed()


def test_reconnects_are_counted(session: ViewerSession) -> None:
    run(session)
    for count in (1, 2):
        assert session.lost("gone", "LINK_LOST")
        session.still_lost("refused", "CONNECTION_REFUSED")
        assert session.error_code == "CONNECTION_REFUSED"
        assert session.reconnected()
        assert (session.snapshot()["reconnects"], session.error_code) == (count, None)
    assert session.snapshot()["restarts"] == 0


def test_new_credentials_come_with_a_resume_only(session: ViewerSession) -> None:
    first, second = Credentials(password="a"), Credentials(password="b")
    session.credentials = first
    run(session)
    assert not session.resumed(second)
    assert session.credentials is first
    session.lost("gone", "LINK_LOST")
    session.give_up("refused", "AUTH_FAILED")
    assert session.resumed(second)
    assert session.credentials is second


def test_how_long_it_has_ended(session: ViewerSession, clock: ManualClock) -> None:
    run(session)
    clock.now += 10
    assert session.ended_for == 0
    session.end(ERROR, "died", "X")
    clock.now += 5
    assert session.ended_for == 5


@pytest.mark.parametrize("state", STATES)
def test_what_is_kept_on_disk(session: ViewerSession, state: str) -> None:
    session.credentials = Credentials(password="c4n4ry", private_key="c4n4ry", passphrase="c4n4ry")
    STATES[state](session)
    record = session.record()
    if state in ("connecting", "stopping", "stopped", "error"):
        assert record is None
        return
    assert record is not None
    assert "c4n4ry" not in repr(record)
    assert record.needs_secret


def test_a_viewer_is_kept_on_disk_from_when_it_goes_on_without_us(session: ViewerSession) -> None:
    session.prepared(remote_root="/home/me/data", environment="r72", runicorn_version="0.7.2")
    session.launched(RemoteProcess(4711, "123", 23300, "/x"))
    assert session.record() is None, "the host takes it back if we are gone"
    session.listening()
    before = session.record()
    assert before is not None
    assert session.ready()
    assert session.record() == before
    session.begin_stop()
    assert session.record() is None


def test_found_again_after_a_restart(session: ViewerSession, clock: ManualClock) -> None:
    session.credentials = Credentials(private_key_path="~/.ssh/key")
    run(session).lost("gone", "LINK_LOST")
    session.reconnected()
    before = session.snapshot()
    record = session.record()
    assert record is not None
    found = ViewerSession.from_record(record, clock)
    assert (found.status, found.error_code) == ("reconnecting", "SERVER_RESTARTED")
    assert found.process == session.process
    after = found.snapshot()
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"status", "isActive", "error", "errorCode", "lastHealthyAt", "phases"}
    assert found.reconnected()
    assert found.snapshot()["reconnects"] == 2


# --- races


def at_once(*work: Callable[[], bool]) -> list[bool]:
    results: dict[int, bool] = {}
    start = threading.Barrier(len(work))

    def do(number: int) -> None:
        start.wait(10)
        results[number] = work[number]()

    threads = [
        threading.Thread(target=do, args=(number,), name=f"race-{number}") for number in range(len(work))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return [results[number] for number in range(len(work))]


def test_a_stop_and_the_end_of_the_start(clock: ManualClock) -> None:
    """Either the start is cancelled, or it is ready and the stop ends it; never both, never neither."""
    for _ in range(100):
        session = make(clock)
        ready, stopped = at_once(session.ready, session.begin_stop)
        assert ready == stopped
        assert session.status == ("stopping" if ready else "connecting")
        assert session.cancelled.is_set()


def test_of_many_stops_one_has_the_right(clock: ManualClock) -> None:
    for _ in range(30):
        session = run(make(clock))
        assert sum(at_once(*[session.begin_stop] * 6)) == 1


def test_a_stop_and_a_crash(clock: ManualClock) -> None:
    for _ in range(100):
        session = run(make(clock))
        at_once(session.begin_stop, lambda session=session: session.end(ERROR, "died", "X"))
        assert session.status == "stopping", "the stop comes last in any case"


def test_a_lost_link_is_noticed_once(clock: ManualClock) -> None:
    for _ in range(30):
        session = run(make(clock))
        lose = [lambda session=session: session.lost("gone", "LINK_LOST")] * 4
        assert sum(at_once(*lose)) == 1
        assert sum(at_once(*[session.reconnected] * 4)) == 1
        assert session.snapshot()["reconnects"] == 1
