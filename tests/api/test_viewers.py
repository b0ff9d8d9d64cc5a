"""Starting, watching and ending viewers: over a real sshd, with the real runicorn where it matters."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.test import TestResponse

from runicorn_remote.services import Services
from runicorn_remote.settings import Settings
from tests.api.user import User, faults, outcome
from tests.hosts.sshd import KEY_ROOTS
from tests.onhost.viewer_host import is_alive
from tests.ssh.tunnel_kit import TcpServer, swallow, wait_until

pytestmark = pytest.mark.sshd

# Field -> the types it may have once the viewer runs.
SESSION = {
    "sessionId": str,
    "host": str,
    "sshPort": int,
    "username": str,
    "localPort": int,
    "remotePort": int,
    "remoteRoot": str,
    "remotePid": int,
    "status": str,
    "startedAt": int,
    "uptimeSeconds": float,
    "isActive": bool,
    "url": str,
    "condaEnv": str,
    "runicornVersion": str,
    "node": type(None),
    "error": type(None),
    "errorCode": type(None),
    "errorDetail": type(None),
    "phase": str,
    "phases": list,
    "tunnel": dict,
    "reconnects": int,
    "restarts": int,
    "lastHealthyAt": int,
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=str(tmp_path / "state"), key_roots=KEY_ROOTS, health_timeout=0.3, max_viewers=4)


class Start(threading.Thread):
    """A start under way, and its answer."""

    def __init__(self, user: User, **changes: Any) -> None:
        super().__init__(name="start", daemon=True)
        self._user = User(user.client.application.test_client(), user.server)
        self._changes = changes
        self._answer: TestResponse | None = None
        self.start()

    def run(self) -> None:
        self._answer = self._user.start(**self._changes)

    def answer(self) -> TestResponse:
        self.join(30)
        assert self._answer is not None
        return self._answer


def sessions(user: User) -> list[dict[str, Any]]:
    answer = user.get("viewer/sessions")
    assert answer.status_code == 200
    assert set(answer.get_json()) == {"sessions"}
    return answer.get_json()["sessions"]


def assert_nothing_left(user: User, services: Services) -> None:
    """Neither here nor on the host; the connection of a user may stay."""
    assert sessions(user) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunnel")]
    assert len(services.pool) == len(user.get("sessions").get_json()["sessions"])
    # A start that failed says so first, and clears up right after.
    wait_until(lambda: remote_files(user) == [], "the host is as it was")


def remote_files(user: User) -> list[Path]:
    """What viewers have in the account: a directory a session. Some may be going away right now."""
    found = os.walk(user.server.home / ".local")
    return [Path(directory) for directory, _, names in found if "viewer.log" in names]


@contextlib.contextmanager
def taken_port(family: socket.AddressFamily, address: str) -> Iterator[int]:
    with socket.socket(family) as taken:
        taken.bind((address, 0))
        taken.listen()
        yield taken.getsockname()[1]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# --- the whole way


@pytest.mark.viewer
def test_a_real_viewer_from_start_to_stop(connected: User, services: Services) -> None:
    answer = connected.start(conda_env="r72")
    assert answer.status_code == 200, answer.get_json()
    body = answer.get_json()
    session = body["session"]
    assert body == {
        "ok": True,
        "session": session,
        "message": f"Remote Viewer ready at http://localhost:{session['localPort']}",
    }
    assert {name: type(value) for name, value in session.items()} == SESSION
    expected = {
        "host": connected.server.host,
        "sshPort": connected.server.port,
        "username": connected.server.username,
        "remoteRoot": str(connected.server.home / "data"),
        "status": "running",
        "isActive": True,
        "url": f"http://localhost:{session['localPort']}",
        "condaEnv": "r72",
        "runicornVersion": "0.7.2",
        "phase": "ready",
        "reconnects": 0,
        "restarts": 0,
    }
    assert {name: session[name] for name in expected} == expected
    assert set(session["tunnel"]) == {"bytesIn", "bytesOut", "openConnections", "totalConnections"}
    assert all(type(value) is int for value in session["tunnel"].values())
    assert abs(session["startedAt"] - time.time() * 1000) < 60_000
    assert is_alive(session["remotePid"])

    health = requests.get(f"{session['url']}/api/health", timeout=10)
    assert (health.json()["status"], health.json()["version"]) == ("ok", "0.7.2")
    page = requests.get(f"http://127.0.0.1:{session['localPort']}/", timeout=10)
    assert (page.status_code, "<html" in page.text) == (200, True)

    (listed,) = sessions(connected)
    status = connected.get(f"viewer/status/{session['sessionId']}")
    assert status.status_code == 200
    assert set(status.get_json()) == set(listed) == set(SESSION)
    assert status.get_json()["tunnel"]["bytesIn"] > len(page.content)
    assert status.get_json()["uptimeSeconds"] >= session["uptimeSeconds"]

    answer = connected.stop(session["sessionId"])
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"ok": True, "message": f"Session {session['sessionId']} stopped"},
    )
    assert not is_alive(session["remotePid"])
    assert is_free(session["localPort"])
    assert_nothing_left(connected, services)
    assert outcome(connected.get(f"viewer/status/{session['sessionId']}")) == (404, "SESSION_NOT_FOUND")


def test_the_ports_that_were_asked_for(connected: User) -> None:
    with taken_port(socket.AF_INET, "127.0.0.1") as local_port:
        pass
    with taken_port(socket.AF_INET, "127.0.0.1") as remote_port:
        pass
    session = connected.started(conda_env="serves", local_port=str(local_port), remote_port=remote_port)
    assert (session["localPort"], session["remotePort"]) == (local_port, remote_port)


def test_a_remote_port_that_is_taken_is_replaced(connected: User) -> None:
    with taken_port(socket.AF_INET, "127.0.0.1") as taken:
        session = connected.started(conda_env="serves", remote_port=taken)
    assert session["remotePort"] != taken


def test_several_at_once(connected: User) -> None:
    answers = [start.answer() for start in [Start(connected, conda_env="serves") for _ in range(4)]]
    assert [answer.status_code for answer in answers] == [200] * 4, [a.get_json() for a in answers]
    started = [answer.get_json()["session"] for answer in answers]
    for name in ("sessionId", "localPort", "remotePort", "remotePid"):
        assert len({session[name] for session in started}) == 4
    assert connected.stop(started[0]["sessionId"]).status_code == 200
    for session in started[1:]:
        assert requests.get(f"{session['url']}/api/health", timeout=10).json()["status"] == "ok"
    assert connected.start(conda_env="serves").status_code == 200, "one place is free again"
    assert outcome(connected.start(conda_env="serves")) == (503, "TOO_MANY_VIEWERS")


# --- whose connection it is


def test_without_a_secret_the_connection_the_user_holds_serves(connected: User, services: Services) -> None:
    answer = connected.post(
        "viewer/start", connected.account(use_agent=False, remote_root="~/data", conda_env="serves")
    )
    assert answer.status_code == 200, answer.get_json()
    assert len(services.pool) == 1


def test_disconnecting_leaves_a_viewer_running(connected: User, services: Services) -> None:
    session = connected.started(conda_env="serves")
    assert connected.disconnect().get_json()["ok"] is True
    assert connected.get("sessions").get_json() == {"sessions": []}
    assert [each["status"] for each in sessions(connected)] == ["running"]
    assert requests.get(f"{session['url']}/api/health", timeout=10).status_code == 200
    assert len(services.pool) == 1
    assert connected.stop(session["sessionId"]).status_code == 200
    assert_nothing_left(connected, services)
    assert len(services.pool) == 0


def test_a_viewer_needs_no_connect_before_and_lists_none(user: User) -> None:
    user.started(conda_env="serves")
    assert user.get("sessions").get_json() == {"sessions": []}
    assert user.disconnect().get_json() == {"ok": False, "message": "Connection not found"}


def test_disconnecting_with_the_viewers(connected: User, services: Services) -> None:
    pids = [connected.started(conda_env="serves")["remotePid"] for _ in range(2)]
    answer = connected.disconnect(stop_viewers=True)
    assert answer.get_json() == {"ok": True, "message": "Connection removed"}
    assert not any(is_alive(pid) for pid in pids)
    assert_nothing_left(connected, services)
    assert len(services.pool) == 0


def test_the_viewers_of_another_account_are_not_stopped(connected: User) -> None:
    connected.started(conda_env="serves")
    connected.disconnect(username="other", stop_viewers=True)
    assert len(sessions(connected)) == 1
    assert faults(connected.disconnect(stop_viewers="yes")) == {"stop_viewers"}


# --- starts that fail


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["v4", "v6"]
)
def test_a_local_port_that_is_taken(
    user: User, services: Services, family: socket.AddressFamily, address: str
) -> None:
    before = user.server.log()
    try:
        with taken_port(family, address) as port:
            answer = user.start(conda_env="serves", local_port=port)
    except OSError as error:
        pytest.skip(f"this machine has no {address}: {error}")
    assert outcome(answer) == (409, "LOCAL_PORT_IN_USE")
    assert user.server.log() == before, "the host was not asked for anything"
    assert_nothing_left(user, services)


def test_an_environment_that_is_not_there(connected: User, services: Services) -> None:
    for name in ("nope", "/nope/bin/python", "r72/../nope"):
        answer = connected.start(conda_env=name)
        assert outcome(answer) == (404, "ENVIRONMENT_NOT_FOUND")
        assert answer.get_json()["detail"] == (
            f"Environment '{name}' not found. Please check the environment name."
        )
    assert_nothing_left(connected, services)


def test_an_environment_without_runicorn(connected: User, services: Services) -> None:
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("there is no /usr/bin/python3")
    if subprocess.run([python, "-c", "import runicorn"], capture_output=True, timeout=30).returncode == 0:
        pytest.skip("/usr/bin/python3 has runicorn")
    answer = connected.start(conda_env="/usr/bin/python3")
    assert outcome(answer) == (500, "RUNICORN_NOT_INSTALLED")
    assert answer.get_json()["detail"].startswith("Failed to start Remote Viewer: ")
    assert "/usr/bin/python3 -m pip install runicorn" in answer.text
    assert_nothing_left(connected, services)


def test_a_viewer_that_dies_while_starting_leaves_its_last_words(connected: User, services: Services) -> None:
    began = time.monotonic()
    answer = connected.start(conda_env="raises")
    assert time.monotonic() - began < 5
    assert outcome(answer) == (500, "VIEWER_EXITED")
    detail = answer.get_json()["detail"]
    assert detail.startswith("Failed to start Remote Viewer: ")
    assert "reading the index" in detail
    assert detail.endswith("RuntimeError: the index is broken")
    assert_nothing_left(connected, services)


def test_a_viewer_that_listens_and_never_answers(connected: User, services: Services) -> None:
    answer = connected.start(conda_env="deaf")
    assert outcome(answer) == (500, "VIEWER_NOT_ANSWERING")
    assert_nothing_left(connected, services)


@pytest.mark.parametrize(
    ("root", "status", "code"),
    [
        ("", 400, "INVALID_VALUE"),
        ("  ", 400, "INVALID_VALUE"),
        ("/nope/data", 400, "PATH_NOT_FOUND"),
        ("/etc/passwd", 400, "NOT_A_DIRECTORY"),
        ("/etc/passwd/data", 400, "NOT_A_DIRECTORY"),
        ("~/" + "x" * 300, 400, "INVALID_PATH"),
    ],
)
def test_storage_that_cannot_be(
    connected: User, services: Services, root: str, status: int, code: str
) -> None:
    assert outcome(connected.start(conda_env="serves", remote_root=root)) == (status, code)
    assert_nothing_left(connected, services)


def test_a_start_has_to_name_the_storage(user: User) -> None:
    assert faults(user.post("viewer/start", user.credentials())) == {"remote_root"}
    for value in (None, 5, ["a"]):
        assert faults(user.start(remote_root=value)) == {"remote_root"}
    for name in ("local_port", "remote_port"):
        for value in (0, 65536, "x", True):
            assert faults(user.start(**{name: value})) == {name}


def test_nothing_given_is_the_same_as_null(connected: User) -> None:
    connected.started(conda_env="serves", local_port=None, remote_port=None, password=None, private_key="")


# --- ends


def test_stopping_a_start_that_is_under_way(connected: User, services: Services) -> None:
    start = Start(connected, conda_env="sleeps")
    wait_until(lambda: [each["phase"] for each in sessions(connected)] == ["waiting"], "the viewer starts")
    (session,) = sessions(connected)
    assert set(session) == set(SESSION)
    assert (session["status"], session["isActive"]) == ("connecting", False)
    assert is_alive(session["remotePid"])
    assert connected.stop(session["sessionId"]).status_code == 200
    assert not is_alive(session["remotePid"])
    assert_nothing_left(connected, services)
    assert outcome(start.answer()) == (500, "START_CANCELLED")
    assert outcome(connected.stop(session["sessionId"])) == (404, "SESSION_NOT_FOUND")


def test_stopping_a_start_that_still_logs_in(user: User, services: Services) -> None:
    with TcpServer(swallow) as silent:
        start = Start(user, port=silent.port, conda_env="serves")
        wait_until(lambda: sessions(user), "the session is listed")
        (session,) = sessions(user)
        assert (session["status"], session["phase"]) == ("connecting", "connecting")
        assert session["remotePid"] is None
        stopped: list[TestResponse] = []
        client = User(user.client.application.test_client(), user.server)
        stopping = threading.Thread(
            target=lambda: stopped.append(client.stop(session["sessionId"])), name="stop"
        )
        stopping.start()
        wait_until(lambda: services.sessions.get(session["sessionId"]).cancelled.is_set(), "it is cancelled")
    stopping.join(30)
    assert [answer.status_code for answer in stopped] == [200]
    assert outcome(start.answer()) == (500, "START_CANCELLED")
    assert sessions(user) == []


def test_stopping_twice(connected: User) -> None:
    session_id = connected.started(conda_env="serves")["sessionId"]
    assert connected.stop(session_id).status_code == 200
    answer = connected.stop(session_id)
    assert outcome(answer) == (404, "SESSION_NOT_FOUND")
    assert answer.get_json()["detail"] == f"Session not found: {session_id}"


def test_stopping_twice_at_once(connected: User, services: Services) -> None:
    session = connected.started(conda_env="serves")
    codes: list[int] = []

    def stop() -> None:
        user = User(connected.client.application.test_client(), connected.server)
        codes.append(user.stop(session["sessionId"]).status_code)

    threads = [threading.Thread(target=stop, name=f"stop-{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(codes) == 4
    assert set(codes) <= {200, 404}
    assert 200 in codes
    assert not is_alive(session["remotePid"])
    assert_nothing_left(connected, services)


def test_a_viewer_that_is_gone_already_is_stopped_all_the_same(connected: User, services: Services) -> None:
    session = connected.started(conda_env="serves")
    connected.server.kill_connections()
    assert connected.stop(session["sessionId"]).status_code == 200
    assert sessions(connected) == []
    assert is_free(session["localPort"])


def test_sessions_that_are_not_there(user: User) -> None:
    for session_id in ("nope", "0" * 16, "a b", "%00", "é"):
        assert outcome(user.get(f"viewer/status/{session_id}")) == (404, "SESSION_NOT_FOUND")
        assert outcome(user.stop(session_id)) == (404, "SESSION_NOT_FOUND")
    assert faults(user.post("viewer/stop", {})) == {"session_id"}
    for value in (None, 5, ["a"]):
        assert faults(user.post("viewer/stop", {"session_id": value})) == {"session_id"}
