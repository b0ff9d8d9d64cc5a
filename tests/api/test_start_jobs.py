"""Starts that answer at once: the session tells what becomes of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from runicorn_remote.services import Services
from runicorn_remote.settings import Settings
from tests.api.test_viewers import assert_nothing_left, is_free, remote_files, sessions, taken_port
from tests.api.user import User, faults, outcome
from tests.hosts.sshd import KEY_ROOTS
from tests.onhost.viewer_host import is_alive
from tests.ssh.tunnel_kit import TcpServer, swallow, wait_until

pytestmark = pytest.mark.sshd


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=str(tmp_path / "state"),
        key_roots=KEY_ROOTS,
        health_timeout=0.3,
        max_viewers=4,
        slow_requests=2,
    )


def begun(user: User, **changes: Any) -> dict[str, Any]:
    answer = user.start(wait=False, **changes)
    assert answer.status_code == 202, answer.get_json()
    body = answer.get_json()
    assert (body["ok"], body["message"]) == (True, "Remote Viewer is starting")
    session: dict[str, Any] = body["session"]
    assert (session["isActive"], session["error"]) == (False, None)
    return session


def shown(user: User, session: dict[str, Any]) -> dict[str, Any]:
    answer = user.get(f"viewer/status/{session['sessionId']}")
    assert answer.status_code == 200, answer.get_json()
    found: dict[str, Any] = answer.get_json()
    return found


def ended(user: User, session: dict[str, Any], status: str) -> dict[str, Any]:
    """The session when it has got there."""
    wait_until(lambda: shown(user, session)["status"] == status, f"the session is {status}")
    return shown(user, session)


def failed(user: User, services: Services, session: dict[str, Any]) -> dict[str, Any]:
    """The session when its start has failed, and has left nothing behind."""
    found = ended(user, session, "error")
    assert is_free(session["localPort"])
    assert found["isActive"] is False
    assert found["phases"][-1]["seconds"] is not None
    assert len(services.pool) == len(user.get("sessions").get_json()["sessions"])
    wait_until(lambda: remote_files(user) == [], "the host is as it was")
    assert not start_threads()
    return found


def start_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("start-")]


def test_a_start_in_the_background(connected: User, services: Services) -> None:
    session = begun(connected, conda_env="serves")
    assert session["status"] == "connecting"
    assert [item["sessionId"] for item in sessions(connected)] == [session["sessionId"]]
    running = ended(connected, session, "running")
    assert [phase["name"] for phase in running["phases"]] == [
        "connecting",
        "preparing",
        "launching",
        "waiting",
        "ready",
    ]
    took = [phase["seconds"] for phase in running["phases"]]
    assert took[-1] is None
    assert all(seconds >= 0 for seconds in took[:-1])
    began = [phase["startedAt"] for phase in running["phases"]]
    assert began == sorted(began)
    assert requests.get(f"{running['url']}/api/health", timeout=10).status_code == 200
    assert connected.stop(session["sessionId"]).status_code == 200
    assert_nothing_left(connected, services)
    wait_until(lambda: not start_threads(), "its thread has ended")


def test_what_needs_no_host_is_answered_at_once(connected: User, services: Services) -> None:
    with taken_port(socket.AF_INET, "127.0.0.1") as port:
        assert outcome(connected.start(wait=False, local_port=port)) == (409, "LOCAL_PORT_IN_USE")
    assert outcome(connected.start(wait=False, remote_root=" ")) == (400, "INVALID_VALUE")
    unknown = connected.start(wait=False, saved_server_id="nope")
    assert outcome(unknown) == (404, "SAVED_SERVER_NOT_FOUND")
    assert faults(connected.start(wait="no")) == {"wait"}
    assert_nothing_left(connected, services)
    # None of them has kept a place.
    assert len([begun(connected, conda_env="serves") for _ in range(2)]) == 2


def test_a_host_key_to_confirm_is_in_the_session(stranger: User, services: Services) -> None:
    asked = stranger.start(conda_env="serves")
    assert outcome(asked) == (409, "HOST_KEY_CONFIRMATION_REQUIRED")
    session = failed(stranger, services, begun(stranger, conda_env="serves"))
    assert session["errorCode"] == "HOST_KEY_CONFIRMATION_REQUIRED"
    assert session["error"] == "Host key verification failed"
    assert session["errorDetail"] == asked.get_json()["detail"]
    assert session["phase"] == "connecting"
    accepted = stranger.post("known-hosts/accept", session["errorDetail"]["host_key"])
    assert accepted.status_code == 200
    again = begun(stranger, conda_env="serves", local_port=session["localPort"])
    assert ended(stranger, again, "running")["localPort"] == session["localPort"]


@pytest.mark.parametrize(
    ("changes", "code", "phase"),
    [
        ({"username": "nobody-of-this-name"}, "AUTH_FAILED", "connecting"),
        ({"conda_env": "nope"}, "ENVIRONMENT_NOT_FOUND", "preparing"),
        ({"conda_env": "raises"}, "VIEWER_EXITED", "waiting"),
        ({"conda_env": "deaf"}, "VIEWER_NOT_ANSWERING", "waiting"),
    ],
)
def test_a_start_that_fails_is_a_session_in_error(
    connected: User, services: Services, changes: dict[str, Any], code: str, phase: str
) -> None:
    session = failed(connected, services, begun(connected, **changes))
    assert (session["errorCode"], session["phase"]) == (code, phase)
    assert session["error"]
    assert session["errorDetail"] is None
    if code == "VIEWER_EXITED":
        assert session["error"].endswith("RuntimeError: the index is broken")
    assert connected.stop(session["sessionId"]).status_code == 200
    assert sessions(connected) == []


def test_it_can_be_stopped_from_its_first_moment(connected: User, services: Services) -> None:
    for _ in range(5):
        session = begun(connected, conda_env="sleeps")
        assert connected.stop(session["sessionId"]).status_code == 200
        assert outcome(connected.get(f"viewer/status/{session['sessionId']}")) == (404, "SESSION_NOT_FOUND")
        assert_nothing_left(connected, services)
        assert is_free(session["localPort"])


def test_it_can_be_stopped_while_the_viewer_starts(connected: User, services: Services) -> None:
    session = begun(connected, conda_env="sleeps")
    wait_until(lambda: shown(connected, session)["phase"] == "waiting", "the viewer starts")
    pid = shown(connected, session)["remotePid"]
    assert is_alive(pid)
    assert connected.stop(session["sessionId"]).status_code == 200
    assert not is_alive(pid)
    assert_nothing_left(connected, services)


@contextlib.contextmanager
def hanging(user: User) -> Iterator[list[dict[str, Any]]]:
    """As many starts as may run at a time, on a host that never says a word."""
    with TcpServer(swallow) as silent:
        yield [begun(user, port=silent.port, username=f"user{number}") for number in range(2)]


def test_hosts_that_hang_do_not_take_more_than_their_places(user: User, services: Services) -> None:
    with hanging(user) as under_way:
        refused = user.start(wait=False, conda_env="serves")
        assert outcome(refused) == (503, "TOO_MANY_SLOW_REQUESTS")
        assert int(refused.headers["Retry-After"]) > 0
        assert user.start(conda_env="serves").status_code == 200, "those who wait have places of their own"
    for session in under_way:
        assert ended(user, session, "error")["errorCode"] in ("NO_SSH_BANNER", "HANDSHAKE_CLOSED")
    assert ended(user, begun(user, conda_env="serves"), "running")


def test_failed_starts_make_room_for_others(connected: User) -> None:
    for _ in range(6):
        ended(connected, begun(connected, conda_env="nope"), "error")
    assert len(sessions(connected)) == 4
    for number in range(4):
        assert ended(connected, begun(connected, conda_env="serves"), "running"), number
    assert {session["status"] for session in sessions(connected)} == {"running"}
    assert outcome(connected.start(wait=False, conda_env="serves")) == (503, "TOO_MANY_VIEWERS")


def test_closing_ends_what_is_under_way(connected: User, services: Services) -> None:
    session = begun(connected, conda_env="sleeps")
    wait_until(lambda: shown(connected, session)["phase"] == "waiting", "the viewer starts")
    pid = shown(connected, session)["remotePid"]
    services.close()
    assert not is_alive(pid)
    assert not start_threads()
    assert outcome(connected.start(wait=False, conda_env="serves")) == (503, "SHUTTING_DOWN")
