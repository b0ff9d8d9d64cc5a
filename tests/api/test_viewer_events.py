"""A session's events over HTTP, in one process; tests/e2e has them over real connections."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.services import Services
from runicorn_remote.settings import Settings
from tests.api.test_start_jobs import begun, ended
from tests.api.user import User, outcome
from tests.hosts.sshd import KEY_ROOTS
from tests.ssh.tunnel_kit import wait_until

pytestmark = pytest.mark.sshd

Event = tuple[str, str, dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=str(tmp_path / "state"), key_roots=KEY_ROOTS, health_timeout=0.3, max_event_streams=2
    )


class Follower(threading.Thread):
    """Reads a session's events until the server ends them."""

    def __init__(self, user: User, session: dict[str, Any], last_id: str | None = None) -> None:
        super().__init__(name="follower", daemon=True)
        self._client = user.client.application.test_client()
        self._path = f"/api/remote/viewer/{session['sessionId']}/events"
        self._headers = {"Last-Event-ID": last_id} if last_id else {}
        self.events: list[Event] = []
        self.status = 0
        self.start()

    def run(self) -> None:
        with self._client.get(self._path, headers=self._headers) as answer:
            self.status = answer.status_code
            if self.status == 200:
                assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
                assert answer.headers["Cache-Control"] == "no-store"
            for block in answer.response:
                self.events += parsed(block)

    def all(self) -> list[Event]:
        self.join(30)
        assert not self.is_alive(), "the stream goes on"
        return self.events


def parsed(text: bytes) -> list[Event]:
    found = []
    for block in text.decode("ascii").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def steps(events: list[Event]) -> list[tuple[str, str]]:
    return [(data["status"], data["phase"]) for _, kind, data in events if kind == "session"]


def test_a_start_from_the_first_phase_to_the_end(connected: User) -> None:
    session = begun(connected, conda_env="serves")
    follower = Follower(connected, session)
    running = ended(connected, session, "running")
    connected.stop(session["sessionId"])
    events = follower.all()
    assert steps(events) == [
        ("connecting", "connecting"),
        ("connecting", "preparing"),
        ("connecting", "launching"),
        ("connecting", "waiting"),
        ("running", "ready"),
        ("stopping", "ready"),
    ]
    assert events[4][2] == {
        **{name: running[name] for name in ("sessionId", "status", "phase", "phases", "url")},
        **dict.fromkeys(("error", "errorCode", "errorDetail")),
        "at": events[4][2]["at"],
    }
    assert (events[-1][1], events[-1][2]["reason"]) == ("end", "removed")
    assert len({id_ for id_, _, _ in events}) == len(events)


def test_a_start_that_fails(stranger: User) -> None:
    session = begun(stranger, conda_env="serves")
    events = Follower(stranger, session).all()
    (_, _, failed), (last_id, kind, end) = events[-2:]
    assert (failed["status"], failed["errorCode"]) == ("error", "HOST_KEY_CONFIRMATION_REQUIRED")
    assert failed["errorDetail"]["host_key"]["reason"] == "unknown"
    assert (kind, end["reason"]) == ("end", "ended")
    late = Follower(stranger, session)
    assert late.all() == events, "the session is over, and still listed"
    back = Follower(stranger, session, last_id=last_id)
    assert (back.all(), back.status) == ([], 204)


def test_who_comes_back_goes_on(connected: User) -> None:
    session = begun(connected, conda_env="serves")
    ended(connected, session, "running")
    connected.stop(session["sessionId"])
    assert outcome(connected.get(f"viewer/{session['sessionId']}/events")) == (404, "SESSION_NOT_FOUND")
    session = begun(connected, conda_env="raises")
    events = Follower(connected, session).all()
    again = Follower(connected, session, last_id=events[1][0])
    assert again.all() == events[2:]
    assert Follower(connected, session, last_id="of another server").all() == events


def test_followers_are_counted(connected: User, services: Services) -> None:
    session = connected.started(conda_env="serves")
    path = f"/api/remote/viewer/{session['sessionId']}/events"
    answers = [connected.client.application.test_client().get(path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    refused = connected.client.get(path)
    assert outcome(refused) == (503, "TOO_MANY_EVENT_STREAMS")
    assert int(refused.headers["Retry-After"]) > 0
    answers[0].close()
    # What has no body takes no place, and an answer that is closed twice gives back one.
    answers[0].close()
    for _ in range(3):
        assert connected.client.head(path).status_code == 200
    with connected.client.application.test_client().get(path) as third:
        assert third.status_code == 200
        assert outcome(connected.client.get(path)) == (503, "TOO_MANY_EVENT_STREAMS")
    answers[1].close()


def test_closing_ends_the_streams_at_once(connected: User, services: Services) -> None:
    session = connected.started(conda_env="serves")
    followers = [Follower(connected, session) for _ in range(2)]
    wait_until(lambda: all(steps(follower.events) for follower in followers), "they follow")
    services.event_streams.close()
    for follower in followers:
        assert follower.all()[-1][1] == "session", "what goes on elsewhere has no end here"
    answer = connected.get(f"viewer/{session['sessionId']}/events")
    assert outcome(answer) == (503, "SHUTTING_DOWN")
