"""Starts that are sent twice, with and without waiting for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from runicorn_remote.settings import Settings
from tests.api.test_start_jobs import ended
from tests.api.test_viewers import Start, sessions
from tests.api.user import User, faults, outcome
from tests.hosts.sshd import KEY_ROOTS
from tests.ssh.tunnel_kit import wait_until

pytestmark = pytest.mark.sshd

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=str(tmp_path / "state"), key_roots=KEY_ROOTS, health_timeout=0.3)


def start(user: User, key: str = KEY, **changes: Any) -> TestResponse:
    body = user.credentials(**{"remote_root": "~/data", "conda_env": "serves", **changes})
    return user.client.post("/api/remote/viewer/start", json=body, headers={"Idempotency-Key": key})


def session_of(answer: TestResponse) -> dict[str, Any]:
    session: dict[str, Any] = answer.get_json()["session"]
    return session


@pytest.mark.parametrize(("wait", "status"), [(True, 200), (False, 202)])
def test_the_same_again_is_the_same_session(connected: User, wait: bool, status: int) -> None:
    answers = [start(connected, wait=wait) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status] * 3
    assert len({session_of(answer)["sessionId"] for answer in answers}) == 1
    assert len(sessions(connected)) == 1
    other = start(connected, key=f'"{KEY}"', wait=wait)
    assert session_of(other)["sessionId"] == session_of(answers[0])["sessionId"], "quotes are no part of it"
    assert start(connected, key="another", wait=wait).status_code == status
    assert len(sessions(connected)) == 2
    ended(connected, sessions(connected)[1], "running")


def test_a_repetition_waits_for_the_one_under_way(connected: User) -> None:
    users = [User(connected.client.application.test_client(), connected.server) for _ in range(3)]
    starts = [Started(user) for user in users]
    answers = [each.answer() for each in starts]
    assert [answer.status_code for answer in answers] == [200] * 3, [a.get_json() for a in answers]
    assert len({session_of(answer)["sessionId"] for answer in answers}) == 1
    assert len(sessions(connected)) == 1


class Started(Start):
    """With a key, as its user sends it."""

    def run(self) -> None:
        client = self._user.client
        self._answer = start(User(client, self._user.server), **self._changes)


def test_another_request_with_the_key(connected: User) -> None:
    assert start(connected, wait=False).status_code == 202
    answer = start(connected, wait=False, remote_root="~/other")
    assert outcome(answer) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert faults(answer) == {"Idempotency-Key"}
    assert faults(start(connected)) == {"Idempotency-Key"}, "to wait, or not to, is another request"
    ended(connected, sessions(connected)[0], "running")


def test_after_a_failure_it_is_started(stranger: User) -> None:
    asked = start(stranger)
    assert outcome(asked) == (409, "HOST_KEY_CONFIRMATION_REQUIRED")
    stranger.post("known-hosts/accept", asked.get_json()["detail"]["host_key"])
    assert start(stranger).status_code == 200


def test_what_was_stopped_stays_so(connected: User) -> None:
    session_id = session_of(start(connected))["sessionId"]
    assert connected.stop(session_id).status_code == 200
    assert outcome(start(connected)) == (409, "IDEMPOTENCY_KEY_SPENT")
    under_way = Started(connected, key="cancelled", conda_env="sleeps")
    wait_until(lambda: sessions(connected), "it starts")
    assert connected.stop(sessions(connected)[0]["sessionId"]).status_code == 200
    assert outcome(under_way.answer()) == (500, "START_CANCELLED")
    assert outcome(start(connected, key="cancelled", conda_env="sleeps")) == (500, "START_CANCELLED")
    assert sessions(connected) == []


def test_a_background_start_that_failed_keeps_its_key(connected: User) -> None:
    first = session_of(start(connected, wait=False, conda_env="nope"))
    ended(connected, first, "error")
    again = session_of(start(connected, wait=False, conda_env="nope"))
    assert (again["sessionId"], again["errorCode"]) == (first["sessionId"], "ENVIRONMENT_NOT_FOUND")


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "x" * 256, '"unclosed', 'in"side', "a, b", '"a", "b"', "a\\b", "schlüssel", '""']
)
def test_keys_that_are_none(connected: User, key: str) -> None:
    answer = start(connected, key=key)
    assert outcome(answer) == (422, "VALIDATION_FAILED")
    assert answer.get_json()["detail"][0]["loc"] == ["headers", "Idempotency-Key"]
    assert sessions(connected) == []


@pytest.mark.parametrize("key", ["x" * 255, '"with blanks, and commas; too"', "!#$%&'*+./:=?@^_`|~-"])
def test_keys_that_are_ones(connected: User, key: str) -> None:
    assert outcome(start(connected, key=key, remote_root=" ")) == (400, "INVALID_VALUE")
