"""The end of a viewer's log, read where the viewer runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_start_jobs import begun, ended, hanging, shown
from tests.api.test_viewers import settings as settings
from tests.api.user import User, faults, outcome
from tests.ssh.tunnel_kit import wait_until

pytestmark = pytest.mark.sshd


def log(user: User, session: dict[str, Any], **query: Any) -> dict[str, Any]:
    answer = user.get(f"viewer/{session['sessionId']}/log", **query)
    assert answer.status_code == 200, answer.get_json()
    found: dict[str, Any] = answer.get_json()
    assert set(found) == {"sessionId", "lines", "at", "live"}
    return found


def file_of(user: User, session: dict[str, Any]) -> Path:
    (path,) = (user.server.home / ".local").rglob(f"{session['sessionId']}/viewer.log")
    return path


def test_the_last_lines(connected: User) -> None:
    session = connected.started(conda_env="serves")
    found = log(connected, session)
    assert (found["sessionId"], found["live"]) == (session["sessionId"], True)
    assert found["lines"][0] == "serving"
    assert abs(found["at"] - time.time() * 1000) < 60_000
    lines = "".join(f"line {number} {'x' * 400}\n" for number in range(1500))
    file_of(connected, session).write_text(lines + "\x1b[31mred\x1b[0m \x07\x9b\u202eend\n")
    (last,) = log(connected, session, tail=1)["lines"]
    assert last == "red end"
    assert log(connected, session, tail=3)["lines"][0].startswith("line 1498 x")
    assert len(log(connected, session)["lines"]) == 100
    many = log(connected, session, tail=1000)["lines"]
    assert len(many) == 1000
    assert many[0].startswith("line 501 ")
    assert max(map(len, many)) == 300


def test_while_it_starts(connected: User) -> None:
    session = begun(connected, conda_env="sleeps")
    wait_until(lambda: shown(connected, session)["phase"] == "waiting", "the viewer starts")
    wait_until(lambda: log(connected, session)["lines"] == ["waiting for the disk"], "it says something")


def test_before_it_is_launched(user: User) -> None:
    with hanging(user) as (session, _):
        assert outcome(user.get(f"viewer/{session['sessionId']}/log")) == (409, "VIEWER_NOT_LAUNCHED")


def test_of_a_start_that_failed(connected: User) -> None:
    session = ended(connected, begun(connected, conda_env="raises"), "error")
    found = log(connected, session)
    assert found["live"] is False
    assert found["lines"][0] == "reading the index"
    assert found["lines"][-1] == "RuntimeError: the index is broken"
    assert log(connected, session, tail=1)["lines"] == ["RuntimeError: the index is broken"]
    session = ended(connected, begun(connected, conda_env="nope"), "error")
    assert outcome(connected.get(f"viewer/{session['sessionId']}/log")) == (404, "LOG_NOT_FOUND")


def test_while_the_link_is_away(connected: User) -> None:
    known = connected.started(conda_env="serves")
    unknown = connected.started(conda_env="serves")
    before = log(connected, known)
    connected.server.kill_connections()
    wait_until(lambda: not connected.get("sessions").get_json()["sessions"][0]["connected"], "it is lost")
    assert log(connected, known) == {**before, "live": False}
    answer = connected.get(f"viewer/{unknown['sessionId']}/log")
    assert outcome(answer) == (503, "LINK_LOST")


def test_what_cannot_be_asked(user: User) -> None:
    assert outcome(user.get("viewer/nope/log")) == (404, "SESSION_NOT_FOUND")
    for tail in ("0", "1001", "-1", "x", "1.5", ""):
        assert faults(user.get("viewer/nope/log", tail=tail)) == {"tail"}
