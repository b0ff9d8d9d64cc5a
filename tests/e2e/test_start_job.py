"""Starts in the background and those who follow them, over real connections."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from runicorn_remote.client import Busy, RunicornRemoteClient, SessionNotFound
from tests.e2e.test_stuck_host import hanging
from tests.e2e.user import ENVIRONMENT, RemoteAccount, User
from tests.hosts.server import ServerProcess
from tests.hosts.stand_in import SERVES, SLEEPS
from tests.hosts.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.sshd]

STREAMS = 16
SLOW_REQUESTS = 12
SOON = 10.0


@pytest.fixture
def server_environment() -> dict[str, str]:
    # Longer than the test: what hangs here hangs until the host lets go.
    return {"RUNICORN_REMOTE_BANNER_TIMEOUT": "100"}


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RunicornRemoteClient]:
    with RunicornRemoteClient(server.url) as client:
        yield client


def begin(user: User, environment: str = ENVIRONMENT, **more: Any) -> dict[str, Any]:
    answer = user.try_to_start_viewer(environment, wait=False, **more)
    assert answer.status_code == 202, answer.text
    session: dict[str, Any] = answer.json()["session"]
    return session


def follow(server: ServerProcess, session: dict[str, Any]) -> requests.Response:
    """A stream that nobody reads yet."""
    return server.request("GET", f"/api/remote/viewer/{session['sessionId']}/events", stream=True)


@pytest.mark.viewer
def test_a_real_start_is_told_phase_by_phase(
    user: User, client: RunicornRemoteClient, account: RemoteAccount
) -> None:
    session = begin(user)
    states: list[tuple[str, str]] = []
    for event in client.viewer_events(session["sessionId"]):
        if event["event"] == "end":
            break
        states.append((event["data"]["status"], event["data"]["phase"]))
        if event["data"]["status"] == "running":
            health = requests.get(f"{event['data']['url']}/api/health", timeout=10)
            assert health.json()["status"] == "ok"
            threading.Thread(target=user.stop_viewer, args=(session,), name="stop").start()
    assert states == [
        ("connecting", "connecting"),
        ("connecting", "preparing"),
        ("connecting", "launching"),
        ("connecting", "waiting"),
        ("running", "ready"),
        ("stopping", "ready"),
    ]
    assert event["data"]["reason"] == "removed"
    until(lambda: not account.viewer_processes(), SOON, "the viewer has ended")
    with pytest.raises(SessionNotFound):
        next(client.viewer_events(session["sessionId"]))


def test_a_start_is_cancelled_mid_way(
    user: User, client: RunicornRemoteClient, account: RemoteAccount
) -> None:
    account.add_stand_in("sleeps", SLEEPS)
    session = begin(user, "sleeps")
    for event in client.viewer_events(session["sessionId"]):
        if event["event"] == "session" and event["data"]["phase"] == "waiting":
            assert account.viewer_processes()
            user.stop_viewer(session)
    assert (event["event"], event["data"]["reason"]) == ("end", "removed")
    assert not account.viewer_processes()
    assert user.viewers() == []


def test_many_followers_leave_room_for_everything_else(
    server: ServerProcess, user: User, client: RunicornRemoteClient, account: RemoteAccount
) -> None:
    account.add_stand_in("serves", SERVES)
    session = user.start_viewer("serves")
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor(20) as executor:
            streams = list(executor.map(lambda _: follow(server, session), range(20)))
        for stream in streams:
            stack.enter_context(stream)
        codes = sorted(stream.status_code for stream in streams)
        assert codes == [200] * STREAMS + [503] * 4
        with pytest.raises(Busy) as refused:
            next(client.viewer_events(session["sessionId"]))
        assert refused.value.code == "TOO_MANY_EVENT_STREAMS"
        assert refused.value.retry_after
        with hanging(server, SLOW_REQUESTS):
            began = time.monotonic()
            for _ in range(20):
                assert user.get("status")["viewer_session_count"] == 1
                assert server.get("/api/health").status_code == 200
            assert time.monotonic() - began < SOON
        # Clients that go away, each in its own way, make room.
        for stream in streams:
            stream.close()
        until(lambda: _follows(server, session), SOON, "a place is free")
        for _ in range(STREAMS + 1):
            assert until(lambda: _follows(server, session), SOON, "a place is free")
        user.stop_viewer(session)


def _follows(server: ServerProcess, session: dict[str, Any]) -> bool:
    with follow(server, session) as stream:
        return stream.status_code == 200


def test_followers_do_not_hold_up_a_shutdown(
    server: ServerProcess, user: User, account: RemoteAccount
) -> None:
    account.add_stand_in("serves", SERVES)
    session = user.start_viewer("serves")
    with follow(server, session) as stream, follow(server, session) as other:
        assert next(stream.iter_lines()) == b"retry: 2000"
        assert next(other.iter_lines()) == b"retry: 2000"
        assert server.stop() == 0
    # waitress waits five seconds for its threads, and then says so.
    assert "still running" not in server.output()


def test_a_start_whose_answer_was_lost_is_asked_for_again(
    server: ServerProcess, user: User, account: RemoteAccount
) -> None:
    account.add_stand_in("serves", SERVES)
    body = {**user.credentials, "remote_root": "~/storage", "conda_env": "serves"}
    sent = json.dumps(body)
    request = (
        f"POST /api/remote/viewer/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: once\r\nContent-Length: {len(sent)}\r\n\r\n{sent}"
    )
    with contextlib.ExitStack() as cut:
        for _ in range(3):
            connection = cut.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(request.encode())
        until(user.viewers, SOON, "the server has read it")
    headers = {"Idempotency-Key": '"once"', "Content-Type": "application/json"}
    answers = [
        server.request("POST", "/api/remote/viewer/start", data=sent, headers=headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
    (viewer,) = user.viewers()
    assert {answer.json()["session"]["sessionId"] for answer in answers} == {viewer["sessionId"]}
    assert len(account.viewer_processes()) == 1
