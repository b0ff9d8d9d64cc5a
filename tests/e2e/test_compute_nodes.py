"""Viewers on compute nodes: everything real but the scheduler."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.user import RemoteAccount, User, is_refused
from tests.hosts.cluster import Cluster
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import SERVES
from tests.hosts.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="looks into /proc"),
]

SOON = 20.0
JOB = {"job": "123"}
LARGE = 50 * 1024 * 1024
# Gives and takes large bodies, and ends itself as runicorn does when it is idle.
WORKS = SERVES.replace(
    "    def do_GET(self):\n",
    f"""    def do_PUT(self):
        import hashlib
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            data = self.rfile.read(min(left, 65536))
            digest.update(data)
            left -= len(data)
        body = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        import os
        if self.path == "/large":
            self.send_response(200)
            self.send_header("Content-Length", "{LARGE}")
            self.end_headers()
            for number in range({LARGE} // 65536):
                self.wfile.write(bytes([number % 251]) * 65536)
            return
        if self.path == "/idle":
            with open(os.environ["RUNICORN_LOG_FILE"], "a") as log:
                log.write("No requests for 1800s. Shutting down remote-mode viewer.\\n")
            os._exit(0)
""",
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """What /tmp is on both nodes."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    return directory


@pytest.fixture
def sshd(tmp_path: Path, temporary: Path) -> Iterator[SshServer]:
    (tmp_path / "host").mkdir()
    with SshServer(tmp_path / "host", environment={"TMPDIR": str(temporary)}) as server:
        yield server


@pytest.fixture
def server_environment(cluster: Cluster) -> dict[str, str]:
    return {
        "RUNICORN_REMOTE_LAUNCH": f"127.0.0.*: {cluster.template}",
        "RUNICORN_REMOTE_HEARTBEAT_INTERVAL": "0.3",
    }


def health(session: dict[str, Any]) -> Any:
    return requests.get(f"{session['url']}/api/health", timeout=10).json()


def is_empty(account: RemoteAccount) -> None:
    until(lambda: not account.viewer_processes(), SOON, lambda: f"left: {account.viewer_processes()}")


def seen(user: User, session: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = user.get(f"viewer/status/{session['sessionId']}")
    return found


@pytest.mark.viewer
def test_a_viewer_on_a_node_is_reached_by_the_tunnel_alone(
    user: User, account: RemoteAccount, cluster: Cluster, temporary: Path
) -> None:
    session = user.start_viewer(launch_args=JOB)
    assert health(session)["status"] == "ok"
    assert session["node"] == socket.gethostname()
    assert cluster.calls() == ["--jobid 123 --overlap"]

    lines = user.get(f"viewer/{session['sessionId']}/log")["lines"]
    assert "srun: this cluster is down on Sunday" in lines
    (announced,) = [line for line in lines if "Uvicorn running on http://127.0.0.1:" in line]
    port = int(announced.rpartition("127.0.0.1:")[2].split()[0])
    assert port != session["remotePort"]
    assert is_refused(port) == cluster.separate
    assert not is_refused(session["remotePort"])

    user.stop_viewer(session)
    is_empty(account)
    assert cluster.srun_processes() == set()
    assert account.private_directories() == []
    assert list(temporary.iterdir()) == []
    assert is_refused(session["remotePort"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_of_the_login_node_is_not_let_in(user: User, account: RemoteAccount) -> None:
    account.add_stand_in("works", WORKS)
    session = user.start_viewer("works", launch_args=JOB)
    ask = (
        "import socket, sys\n"
        f"with socket.create_connection(('127.0.0.1', {session['remotePort']}), 10) as sock:\n"
        "    sock.sendall(b'GET /api/health HTTP/1.0\\r\\n\\r\\n')\n"
        "    try:\n        print(sock.recv(100))\n    except ConnectionResetError:\n        print(b'')\n"
    )
    python = os.path.realpath("/usr/bin/python3")
    for uid, answer in ((0, "b'HTTP/1.0 200"), (65534, "b''")):
        done = subprocess.run(
            [python, "-I", "-c", ask], user=uid, capture_output=True, text=True, timeout=30, cwd="/"
        )
        assert done.stdout.startswith(answer), done
    assert seen(user, session)["status"] == "running"


def test_large_bodies_pass_a_reader_that_has_stopped(user: User, account: RemoteAccount) -> None:
    account.add_stand_in("works", WORKS)
    session = user.start_viewer("works", launch_args=JOB)
    with socket.create_connection(("127.0.0.1", session["localPort"]), 10) as stopped:
        stopped.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert stopped.recv(1)

        body = b"".join(bytes([number % 251]) * 65536 for number in range(LARGE // 65536))
        with requests.get(f"{session['url']}/large", timeout=30) as answer:
            assert answer.content == body
        sent = requests.put(f"{session['url']}/large", data=body, timeout=30)
        assert sent.text == hashlib.sha256(body).hexdigest()

        # It has not been forgotten.
        received = 1
        while data := stopped.recv(1 << 20):
            received += len(data)
        assert received > LARGE
    assert seen(user, session)["restarts"] == 0


def test_a_launch_command_that_dies_is_run_again_with_the_same_arguments(
    user: User, account: RemoteAccount, cluster: Cluster, server: ServerProcess, temporary: Path
) -> None:
    account.add_stand_in("works", WORKS)
    session = user.start_viewer("works", launch_args=JOB)
    # Also by a server that knows of it from its disk only.
    server.kill()
    server.start()
    user.connect()
    found = until(lambda: seen(user, session)["isActive"] and seen(user, session), SOON, "it is found again")
    assert found["node"] == session["node"]
    assert found["remotePid"] == session["remotePid"]
    before = account.viewer_processes()

    for pid in cluster.srun_processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: seen(user, session)["restarts"] == 1, SOON, lambda: str(seen(user, session)))
    assert health(seen(user, session))["status"] == "ok"
    assert cluster.calls() == ["--jobid 123 --overlap"] * 2
    until(lambda: not before & account.viewer_processes(), SOON, "the old ones have ended")

    # The job is over.
    cluster.set_jobs("7")
    for pid in cluster.srun_processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: seen(user, session)["status"] == "error", SOON, lambda: str(seen(user, session)))
    assert seen(user, session)["errorCode"] == "LAUNCH_COMMAND_FAILED"
    assert "srun: error: Invalid job id specified" in seen(user, session)["error"]
    is_empty(account)
    assert list(temporary.iterdir()) == []


def test_a_viewer_that_ends_itself_when_idle_is_not_a_crash(user: User, account: RemoteAccount) -> None:
    account.add_stand_in("works", WORKS)
    session = user.start_viewer("works", launch_args=JOB)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{session['url']}/idle", timeout=10)
    until(lambda: seen(user, session)["status"] == "stopped", SOON, lambda: str(seen(user, session)))
    assert seen(user, session)["errorCode"] == "IDLE_EXIT"
    is_empty(account)


def test_arguments_that_do_not_fit_are_refused_before_anything_happens(user: User, cluster: Cluster) -> None:
    for given, code in (
        (None, "LAUNCH_ARGUMENT_MISSING"),
        ({}, "LAUNCH_ARGUMENT_MISSING"),
        ({**JOB, "nodes": "2"}, "LAUNCH_ARGUMENT_UNKNOWN"),
        ({"job": "1; id"}, "LAUNCH_ARGUMENT_INVALID"),
        ({"job": "--help"}, "LAUNCH_ARGUMENT_INVALID"),
    ):
        refused = user.try_to_start_viewer(launch_args=given)
        assert (refused.status_code, refused.json()["code"]) == (400, code), refused.text
    assert user.viewers() == []
    assert cluster.calls() == []

    refused = user.try_to_start_viewer(launch_args={"job": "9"})
    assert (refused.status_code, refused.json()["code"]) == (500, "LAUNCH_COMMAND_FAILED")
    assert "srun: error: Invalid job id specified" in refused.json()["detail"]


def test_the_command_line_starts_one(user: User, account: RemoteAccount, server: ServerProcess) -> None:
    account.add_stand_in("works", WORKS)
    user.connect()
    command = [sys.executable, "-m", "runicorn_remote", "start", user.connection_id, "--url", server.url]
    command += ["--root", "~/storage", "--env", "works", "--launch-arg", "job=123"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"node {socket.gethostname()}" in done.stderr
    assert requests.get(f"{done.stdout.strip()}/api/health", timeout=10).json()["status"] == "ok"
