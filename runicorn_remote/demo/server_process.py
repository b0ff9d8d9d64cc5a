"""The real server as a child process, and its HTTP API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runicorn_remote.demo.report import DemoFailed

HOST = "127.0.0.1"
USUAL_PORT = 23300
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 45.0
_LOG_LINES = 30


class ServerProcess:
    """`runicorn-remote serve`. Used by the main thread only.

    `port` None means the usual one if it is free, else any. The child's output goes to `log`; it has a
    session of its own, so that Ctrl-C in a terminal reaches us alone.
    """

    def __init__(self, port: int | None, state_dir: Path, log: Path, environment: Mapping[str, str]) -> None:
        self.port = _chosen_port(port)
        self.url = f"http://{HOST}:{self.port}"
        self._log = log
        self._command = [sys.executable, "-m", "runicorn_remote", "serve"]
        self._command += ["--host", HOST, "--port", str(self.port), "--state-dir", str(state_dir)]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.answered = False

    def start(self) -> None:
        """Returns when `/api/health` answers. Raises `DemoFailed` with the log if it does not."""
        with open(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if fetch(f"{self.url}/api/health", timeout=5)[0] == 200:
                    self.answered = True
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(0.05)
                raise DemoFailed(f"the server ended with exit status {status}")
        raise DemoFailed(f"the server did not answer within {_START_TIMEOUT:.0f} s")

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int | None:
        """End it in order, by force if that takes too long. -> its exit status, None if it never ran."""
        if self._process is None:
            return None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(_STOP_TIMEOUT)

    def log_tail(self) -> str:
        """The last lines the server wrote."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])


class Api:
    """The server's HTTP API: `(status, decoded JSON)` for each request."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/remote"

    def get(self, path: str, **query: str) -> tuple[int, Any]:
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self._request(f"{path}{asked}")

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        return self._request(path, json.dumps(body).encode())

    def _request(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            status, answer = fetch(self._url + path, body)
            return status, json.loads(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DemoFailed(f"{self._url}{path}: {error}") from error


def fetch(url: str, body: bytes | None = None, timeout: float = 150.0) -> tuple[int, bytes]:
    """GET, or POST of a JSON `body`: `(status, body)`, whatever the status.

    Raises `OSError` or `http.client.HTTPException`.
    """
    # Plain HTTP and nothing else: no proxy of the environment, no redirection, no other scheme.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.HTTPHandler())
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with opener.open(request, timeout=timeout) as response:
        return response.status, response.read()


def _chosen_port(wanted: int | None) -> int:
    if wanted is not None:
        if not _is_free(wanted):
            raise DemoFailed(f"port {wanted} is taken; choose another with --port")
        return wanted
    if _is_free(USUAL_PORT):
        return USUAL_PORT
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does it: the closed connections of an earlier one are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
