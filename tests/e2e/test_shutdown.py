"""How the process ends: in order, in time, with a status that says how it went."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.user import RemoteAccount, User, is_refused
from tests.hosts import processes
from tests.hosts.server import SERVE, ServerProcess, clean_environment, fetch
from tests.hosts.silent import SilentHost
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

SIGNALS = [signal.SIGTERM, signal.SIGINT]
ENDS_WITHIN = 15.0
NEVER_LISTENS = "import signal\nwhile True:\n    signal.pause()\n"


@pytest.mark.sshd
@pytest.mark.viewer
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_ends_running_viewers(
    server: ServerProcess, user: User, account: RemoteAccount, number: signal.Signals
) -> None:
    user.connect()
    sessions = [user.start_viewer(), user.start_viewer()]
    assert server.stop(number, ENDS_WITHIN) == 0
    for session in sessions:
        assert not processes.is_alive(session["remotePid"])
        assert is_refused(session["localPort"])
    assert account.private_directories() == []
    assert is_refused(server.port)
    assert "Traceback" not in server.output()


@pytest.mark.sshd
def test_sigterm_during_a_start(server: ServerProcess, user: User, account: RemoteAccount) -> None:
    account.add_stand_in("slow", NEVER_LISTENS)
    with ThreadPoolExecutor(1, thread_name_prefix="start") as executor:
        start = executor.submit(user.try_to_start_viewer, "slow")
        (session,) = until(lambda: waiting(user), 30, "the viewer's process is started and waited for")
        assert server.stop(timeout=ENDS_WITHIN) == 0
        answer = answer_if_any(start)
        assert answer is None or answer.json()["code"] == "START_CANCELLED"
    assert not processes.is_alive(session["remotePid"])
    assert is_refused(session["localPort"])
    until(lambda: not account.private_directories(), 10, "the files of the start are removed")
    assert "Traceback" not in server.output()


def waiting(user: User) -> list[dict[str, Any]]:
    return [session for session in user.viewers() if session["phase"] == "waiting"]


@pytest.mark.parametrize(
    ("path", "banner"),
    [("connect", b""), ("viewer/start", b"SSH-2.0-Stuck\r\n")],
    ids=["connect", "start"],
)
def test_sigterm_while_logins_hang(server: ServerProcess, path: str, banner: bytes) -> None:
    with SilentHost(banner) as silent, ThreadPoolExecutor(8, thread_name_prefix="login") as executor:
        logins = [
            executor.submit(
                server.post,
                f"/api/remote/{path}",
                {
                    "host": silent.host,
                    "port": silent.port,
                    "username": f"user{index}",
                    "password": "x",
                    "remote_root": "~",
                },
            )
            for index in range(8)
        ]
        silent.accept(8)
        assert server.stop(timeout=ENDS_WITHIN) == 0
        for login in logins:
            answer = answer_if_any(login)
            assert answer is None or answer.status_code in (500, 503)
    assert is_refused(server.port)


def answer_if_any(request: Future[requests.Response]) -> requests.Response | None:
    """None: the server ended before the whole answer was out. To wait for that is not its business."""
    try:
        return request.result(ENDS_WITHIN)
    except requests.RequestException:
        return None


@pytest.mark.sshd
@pytest.mark.viewer
@pytest.mark.parametrize("server_environment", [{"RUNICORN_REMOTE_CHANNEL_TIMEOUT": "2"}], ids=["2 s"])
def test_sigterm_does_not_wait_for_a_host_that_has_frozen(
    server: ServerProcess, user: User, sshd: SshServer
) -> None:
    session = user.start_viewer()
    sshd.freeze_connections()
    assert server.stop(timeout=ENDS_WITHIN) == 0
    assert is_refused(session["localPort"])
    sshd.thaw_connections()


@pytest.mark.sshd
@pytest.mark.viewer
def test_a_second_signal_does_not_interrupt_the_clean_up(
    server: ServerProcess, user: User, account: RemoteAccount
) -> None:
    session = user.start_viewer()
    server.send_signal(signal.SIGINT)
    until(lambda: "Shutting down" in server.output(), ENDS_WITHIN, "the server begins to end")
    server.send_signal(signal.SIGINT)
    server.send_signal(signal.SIGTERM)
    assert server.wait(ENDS_WITHIN) == 0
    assert not processes.is_alive(session["remotePid"])
    assert account.private_directories() == []


@pytest.mark.sshd
@pytest.mark.viewer
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_waitress_serve(
    tmp_path: Path, sshd: SshServer, account: RemoteAccount, number: signal.Signals
) -> None:
    command = [
        os.path.join(os.path.dirname(sys.executable), "waitress-serve"),
        "--listen=127.0.0.1:0",
        "wsgi:app",
    ]
    environment = {"RUNICORN_REMOTE_STATE_DIR": str(tmp_path / "state")}
    with ServerProcess(tmp_path, command=command, environment=environment) as server:
        health = server.get("/api/health").json()
        assert health["server"]["name"] == "runicorn-remote"
        key = {"private_key_path": str(sshd.client_key)}
        user = User(server, {"host": sshd.host, "port": sshd.port, "username": sshd.username, **key})
        user.accept_host_key()
        session = user.start_viewer()
        assert fetch(session["url"] + "/api/health").status_code == 200
        assert server.stop(number, ENDS_WITHIN) == 0
        assert not processes.is_alive(session["remotePid"])
        assert is_refused(session["localPort"])
        assert account.private_directories() == []
        assert "Traceback" not in server.output()


# --- starts that come to nothing


def serve(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    began = time.monotonic()
    ended = subprocess.run(
        [*SERVE, *flags],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**clean_environment(), **environment},
    )
    assert time.monotonic() - began < ENDS_WITHIN
    return ended


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = serve("--state-dir", str(tmp_path), "--port", str(port))
    assert ended.returncode == 1
    assert f"Cannot listen on http://127.0.0.1:{port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 'many'", "port: 'many' is not a whole number"),
        ("colour = 'green'", "colour: no such setting"),
        ("threads = 1", "threads: 1 is not between 2 and 256"),
        ("threads = 4\nslow_requests = 4", "slow_requests: must be below threads"),
        ("log_level = 'LOUD'", "log_level: 'LOUD' is not one of"),
        ("port = ", "not TOML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_bad_configuration_file(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "settings.toml"
    if text is not None:
        path.write_text(text)
    ended = serve("--config", str(path))
    assert ended.returncode == 2
    assert ended.stderr.startswith("runicorn-remote: ")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_bad_setting_in_the_environment() -> None:
    ended = serve(RUNICORN_REMOTE_BANNER_TIMEOUT="soon")
    assert ended.returncode == 2
    assert ended.stderr == "runicorn-remote: RUNICORN_REMOTE_BANNER_TIMEOUT: 'soon' is not a number\n"
