"""A local viewer: the real `runicorn viewer`, with runs that the real SDK wrote.

with LocalViewer(tmp_path) as viewer:
    fetch(f"{viewer.url}/api/runs")
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import pytest
import requests

from runicorn_remote.demo import sample_storage
from tests.hosts.server import clean_environment, fetch
from tests.hosts.waiting import until

START_TIMEOUT = 40.0
STOP_TIMEOUT = 20.0


class LocalViewer:
    """All its files are in `directory`, which must exist; `runs` is how many it shows."""

    def __init__(self, directory: Path) -> None:
        self.storage = directory / "storage"
        home = directory / "viewer-home"
        for made in (self.storage, home):
            made.mkdir()
        self._environment = {**clean_environment(), "HOME": str(home)}
        self._log = directory / "viewer.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.runs = sample_storage.create(self.storage, self._environment)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LocalViewer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers; after `stop()` again at the same address."""
        command = ["viewer", "--storage", str(self.storage), "--host", "127.0.0.1", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runicorn", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._environment["HOME"],
            )
        try:
            until(self._answers, START_TIMEOUT, "the local viewer answers")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = self._log.read_text(errors="replace")
            pytest.fail(f"the local viewer ended at once, status {self._process.returncode}:\n{log}")
        try:
            return fetch(f"{self.url}/api/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False
