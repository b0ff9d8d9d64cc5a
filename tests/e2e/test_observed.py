"""What an operator sees of a day: audit log, metrics and probes of a server with a real sshd and viewer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.user import RemoteAccount, User
from tests.hosts.server import REPOSITORY, ServerProcess, clean_environment, fetch
from tests.hosts.stand_in import SERVES
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

SOON = 30.0


@pytest.fixture
def audit_log(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@pytest.fixture
def server_environment(audit_log: Path) -> dict[str, str]:
    return {
        "RUNICORN_REMOTE_AUDIT_LOG": str(audit_log),
        "RUNICORN_REMOTE_LOG_FORMAT": "json",
        "RUNICORN_REMOTE_HEARTBEAT_INTERVAL": "0.5",
    }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def value(server: ServerProcess, name: str, **labels: str) -> float:
    """0 for a series that is not there."""
    for family in text_string_to_metric_families(server.get("/metrics").text):
        for sample in family.samples:
            if sample.name == f"runicorn_remote_{name}" and sample.labels == labels:
                return sample.value
    return 0.0


def test_a_day(user: User, account: RemoteAccount, server: ServerProcess, audit_log: Path) -> None:
    account.add_stand_in("stand-in", SERVES)
    assert server.get("/healthz").status_code == server.get("/readyz").status_code == 200
    user.connect()
    assert user.try_to_connect(private_key_path=None, password="wrong", use_agent=False).status_code == 500
    session = user.start_viewer("stand-in")
    assert fetch(f"{session['url']}/api/health").status_code == 200
    os.kill(session["remotePid"], signal.SIGKILL)
    until(
        lambda: value(server, "events_total", event="viewer.restarted", result="ok") == 1, SOON, "a restart"
    )

    assert value(server, "ssh_connects_total", outcome="ok") == 1
    assert value(server, "ssh_connects_total", outcome="AUTH_FAILED") == 1
    assert value(server, "ssh_connect_seconds_count") == 1
    assert value(server, "viewer_starts_total", outcome="ok") == 1
    assert value(server, "viewer_start_phase_seconds_count", phase="launching") == 1
    assert value(server, "sessions", status="running") == 1
    assert value(server, "tunnels") == value(server, "ssh_connections") == value(server, "ready") == 1
    assert 0 < value(server, "heartbeat_age_seconds") < SOON
    carried = value(server, "tunnel_bytes_total", direction="in")
    assert carried > 0

    audit_log.rename(audit_log.with_suffix(".1"))
    user.stop_viewer(session)
    assert value(server, "tunnels") == 0
    assert value(server, "tunnel_bytes_total", direction="in") >= carried, "counters never go back"
    assert server.stop() == 0

    assert stat.S_IMODE(audit_log.stat().st_mode) == 0o600
    told = [*lines(audit_log.with_suffix(".1")), *lines(audit_log)]
    assert [(line["action"], line["result"]) for line in told] == [
        ("server.started", "ok"),
        ("connect", "HOST_KEY_CONFIRMATION_REQUIRED"),
        ("known_hosts.accept", "ok"),
        ("connect", "ok"),
        ("connect", "AUTH_FAILED"),
        ("viewer.start", "ok"),
        ("viewer.crashed", "VIEWER_RESTARTING"),
        ("viewer.restarted", "ok"),
        ("viewer.stop", "ok"),
        ("server.stopped", "ok"),
    ]
    [start] = [line for line in told if line["action"] == "viewer.start"]
    assert start["target"]["session_id"] == session["sessionId"]
    assert start["target"]["connection_id"] == user.connection_id
    assert start["ms"] > 0
    if os.path.exists("/proc/net/tcp"):
        assert {line["uid"] for line in told if "uid" in line} == {os.getuid()}
    log = [json.loads(line) for line in server.output().splitlines()]
    [ready] = [line for line in log if "is ready at port" in line["message"]]
    assert ready["request_id"] == start["request_id"]


class OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SOON)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SOON)
        self.sock.connect(str(self.path))


@pytest.fixture
def on_a_unix_socket(tmp_path_factory: pytest.TempPathFactory, audit_log: Path) -> Iterator[Path]:
    """Not in `tmp_path`: the name of a unix socket is short."""
    directory = tmp_path_factory.mktemp("s")
    path = directory / "run" / "s"
    command = [sys.executable, "-m", "runicorn_remote", "serve", "--unix-socket", str(path)]
    environment = {**clean_environment(), "RUNICORN_REMOTE_AUDIT_LOG": str(audit_log)}
    with (
        open(directory / "log", "wb") as log,
        subprocess.Popen(
            [*command, "--state-dir", str(directory / "state")],
            cwd=REPOSITORY,
            env=environment,
            stderr=log,
        ) as process,
    ):
        try:
            until(lambda: b"listens on" in (directory / "log").read_bytes(), SOON, "it listens")
            yield path
        finally:
            process.terminate()
            process.wait(SOON)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux tells who has connected")
def test_who_it_was_on_a_unix_socket(on_a_unix_socket: Path, audit_log: Path) -> None:
    with contextlib.closing(OverUnixSocket(on_a_unix_socket)) as connection:
        connection.request(
            "POST", "/api/remote/viewer/stop", b'{"session_id": "x"}', {"Content-Type": "application/json"}
        )
        assert connection.getresponse().status == 404
    [line] = [line for line in lines(audit_log) if line["action"] == "viewer.stop"]
    assert (line["uid"], line["address"]) == (os.getuid(), None)


def test_an_audit_log_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-m", "runicorn_remote", "serve", "--port", "0"]
    environment = {**clean_environment(), "RUNICORN_REMOTE_AUDIT_LOG": str(tmp_path / "audit.jsonl")}
    done = subprocess.run(
        [*command, "--state-dir", str(tmp_path / "state")],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "audit_log: " in done.stderr
    assert "Traceback" not in done.stderr
