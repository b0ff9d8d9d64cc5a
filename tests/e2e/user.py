"""One person at the API, and the account on the host: what the end-to-end tests are told in."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import requests

from tests.hosts import processes
from tests.hosts.server import ServerProcess

# The environment of every remote account that has the runicorn installed beside these tests.
ENVIRONMENT = "experiments"


class User:
    """Somebody with credentials for one host. Every step asserts that the server did it."""

    def __init__(self, server: ServerProcess, credentials: dict[str, Any]) -> None:
        self.server = server
        self.credentials = credentials

    @property
    def connection_id(self) -> str:
        return "{username}@{host}:{port}".format(**self.credentials)

    def get(self, path: str, **query: Any) -> Any:
        return _done(self.server.get(f"/api/remote/{path}", **query))

    def post(self, path: str, **body: Any) -> Any:
        return _done(self.server.post(f"/api/remote/{path}", body))

    def try_to_connect(self, **changed: Any) -> requests.Response:
        return self.server.post("/api/remote/connect", {**self.credentials, **changed})

    def accept_host_key(self) -> dict[str, Any]:
        """Be asked about the host's key, and accept it. Returns the question."""
        asked = self.try_to_connect()
        assert asked.status_code == 409, asked.text
        question: dict[str, Any] = asked.json()["detail"]
        self.post("known-hosts/accept", **question["host_key"])
        return question

    def connect(self) -> str:
        connected = _done(self.try_to_connect())
        assert connected["connected"] is True
        assert connected["connection_id"] == self.connection_id
        return self.connection_id

    def disconnect(self, **more: Any) -> None:
        account = {name: self.credentials[name] for name in ("host", "port", "username")}
        assert self.post("disconnect", **account, **more)["ok"] is True

    def try_to_start_viewer(self, environment: str = ENVIRONMENT, **more: Any) -> requests.Response:
        body = {**self.credentials, "remote_root": "~/storage", "conda_env": environment, **more}
        return self.server.post("/api/remote/viewer/start", body)

    def start_viewer(self, environment: str = ENVIRONMENT, **more: Any) -> dict[str, Any]:
        session: dict[str, Any] = _done(self.try_to_start_viewer(environment, **more))["session"]
        assert session["status"] == "running"
        return session

    def stop_viewer(self, session: dict[str, Any]) -> None:
        self.post("viewer/stop", session_id=session["sessionId"])

    def viewers(self) -> list[dict[str, Any]]:
        sessions: list[dict[str, Any]] = self.get("viewer/sessions")["sessions"]
        return sessions


class RemoteAccount:
    """The home directory of an account where viewers are started."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.add_environment(ENVIRONMENT, Path(sys.prefix))

    def add_environment(self, name: str, prefix: Path) -> None:
        """A virtual environment that the server finds by `name`."""
        environments = self.home / ".virtualenvs"
        environments.mkdir(exist_ok=True)
        (environments / name).symlink_to(prefix)

    def add_stand_in(self, name: str, program: str) -> None:
        """An environment whose `runicorn` is this program, for what the real one does not do on demand."""
        prefix = self.home / f"stand-in-{name}"
        series = f"{sys.version_info[0]}.{sys.version_info[1]}"
        site = prefix / f"lib/python{series}/site-packages"
        metadata = site / "runicorn-0.7.2.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("Metadata-Version: 2.1\nName: runicorn\nVersion: 0.7.2\n")
        (site / "runicorn").mkdir()
        (site / "runicorn/__init__.py").touch()
        (site / "runicorn/__main__.py").write_text(program)
        base = Path(sys.executable).resolve()
        (prefix / "bin").mkdir()
        (prefix / "bin/python").symlink_to(base)
        (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\nversion = {series}.0\n")
        self.add_environment(name, prefix)

    def viewer_processes(self) -> set[int]:
        """Of all viewers that were started in this home. Linux only."""
        return processes.with_environment(f"HOME={self.home}", "RUNICORN_REMOTE_SESSION=")

    def private_directories(self) -> list[Path]:
        return list((self.home / ".local/state/runicorn-remote").glob("*/*"))


def is_refused(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) != 0


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def skip_or_fail(reason: str) -> None:
    """For what a developer's machine may lack, and the one that checks changes may not."""
    import pytest

    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _done(response: requests.Response) -> Any:
    assert response.status_code == 200, f"{response.status_code}: {response.text}"
    return response.json()
