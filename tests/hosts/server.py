"""The server as its users run it: a process of its own, spoken to over HTTP.

with ServerProcess(tmp_path) as server:
    server.get("/api/health").json()
    server.post("/api/remote/connect", {...})
    assert server.stop() == 0
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import requests

from tests.hosts import processes
from tests.hosts.sshd import KEY_ROOTS
from tests.hosts.waiting import until

START_TIMEOUT = 30.0
STOP_TIMEOUT = 40.0
REQUEST_TIMEOUT = 60.0

SERVE = (sys.executable, "-m", "runicorn_remote", "serve", "--port", "0")
REPOSITORY = Path(__file__).resolve().parents[2]

# Ours, and waitress-serve's.
_LISTENS = re.compile(r"(?:listens|Serving) on (http://(?:127\.0\.0\.1|\[::1\]):\d+)")
_TOKEN_VARIABLE = "TEST_SERVER_TOKEN"


class ServerProcess:
    """One server. All its files, its log among them, are in `directory`, which must exist.

    `flags` come after those of `command`, which is `serve` on a free port with `state_dir` unless given;
    `environment` is added to this process's own, without the settings of whoever runs the tests. `token` is
    sent with every request; the server has to be told of it by a setting.
    """

    def __init__(
        self,
        directory: Path,
        *,
        flags: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        token: str | None = None,
    ) -> None:
        self.state_dir = directory / "state"
        self.url = ""
        self._command = [*(command or (*SERVE, "--state-dir", str(self.state_dir))), *flags]
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._token = secrets.token_hex(16)
        self._environment = {
            **clean_environment(),
            "RUNICORN_REMOTE_KEY_ROOTS": ",".join(KEY_ROOTS),
            _TOKEN_VARIABLE: self._token,
            **(environment or {}),
        }
        self._log = directory / "server.log"
        self._printed_before = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    # --- running it

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it answers."""
        self._printed_before = len(self.output())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self.url = until(self._announced_url, START_TIMEOUT, "the server says where it listens")
            assert self.get("/api/health").status_code == 200
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def pids(self) -> set[int]:
        """The server and its children, also those that have detached themselves. Linux only."""
        return processes.with_environment(f"{_TOKEN_VARIABLE}={self._token}")

    def output(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """The exit status; negative for a signal. Fails if it does not end in time or leaves a child."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the server did not end within {timeout:g} s:\n{self.output()}")
        assert not self.pids(), "the server left a child behind"
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> int:
        self.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it and all its children at once, whatever state they are in."""
        if self._process is None:
            return
        for pid in self.pids() - {self._process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)

    # --- talking to it

    def get(self, path: str, timeout: float = REQUEST_TIMEOUT, **query: Any) -> requests.Response:
        return self.request("GET", path, params=query, timeout=timeout)

    def post(self, path: str, body: Any, timeout: float = REQUEST_TIMEOUT) -> requests.Response:
        return self.request("POST", path, json=body, timeout=timeout)

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        """`more` as `requests` has it. The token is sent, unless `headers` has another."""
        headers = {**self._authorization, **(more.pop("headers", None) or {})}
        return fetch(self.url + path, method=method, headers=headers, **{"timeout": REQUEST_TIMEOUT, **more})

    def _announced_url(self) -> str:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the server ended at once, status {self._process.returncode}:\n{self.output()}")
        found = _LISTENS.search(self.output(), self._printed_before)
        return found[1] if found else ""


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    timeout: float = REQUEST_TIMEOUT,
    **more: Any,
) -> requests.Response:
    """One request on a connection of its own, whatever proxy the environment names."""
    with requests.Session() as session:
        session.trust_env = False
        sent = {"Connection": "close", **(headers or {})}
        return session.request(method, url, headers=sent, timeout=timeout, **more)


def clean_environment() -> dict[str, str]:
    """This process's environment without anybody's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RUNICORN")}
