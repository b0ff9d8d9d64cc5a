"""`runicorn-remote demo` as a user runs it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from runicorn_remote.cli import main
from tests.hosts.processes import with_environment

TIMEOUT = 100.0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its files."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    return directory


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "runicorn_remote", "demo", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        if process.poll() is None:
            process.terminate()
    return process.returncode, out, err


@pytest.mark.e2e
def test_check(temporary: Path) -> None:
    status, out, err = finished(start("--check"))
    assert (status, err) == (0, ""), out
    steps = [line.strip() for line in out.splitlines()]
    assert _in_order(
        steps,
        [
            r"POST /connect .* 409, host key unknown: ssh-ed25519 SHA256:",
            r"POST /known-hosts/accept ",
            r"POST /connect .* demo@127\.0\.0\.1:\d+$",
            r"GET  /conda-envs ",
            r"GET  /config .* runicorn 0\.",
            r"POST /viewer/start .* http://localhost:\d+",
            r"GET  /viewer/status/ID .* running",
            r"GET  viewer /api/health ",
            r"GET  viewer / ",
            r"GET  viewer /api/runs .* failed, finished, finished",
            r"POST /viewer/stop ",
            r"POST /disconnect ",
            r"what is left .* no process, port, thread or file",
            r"Everything worked, and nothing stayed behind\.",
        ],
    ), out
    assert list(temporary.iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_runs_until_a_signal(temporary: Path, number: signal.Signals) -> None:
    demo = start()
    try:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        url = next(line.split()[-1] for line in lines if line.startswith("The viewer: "))
        with urllib.request.urlopen(f"{url}/api/health", timeout=TIMEOUT) as answer:
            assert answer.status == 200
        (directory,) = temporary.iterdir()
        demo.send_signal(number)
    finally:
        status, out, err = finished(demo)
    assert (status, err) == (0, ""), out
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/api/health", timeout=TIMEOUT)
    assert list(temporary.iterdir()) == []
    if sys.platform == "linux":
        assert with_environment(f"RUNICORN_DEMO={directory.resolve()}") == set()


@pytest.mark.e2e
def test_closed_terminal(temporary: Path) -> None:
    """Whoever reads goes away, then the hang-up comes: everything is cleared away all the same."""
    demo = start()
    try:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert any(line.startswith("The viewer: ") for line in iter(demo.stdout.readline, ""))
        demo.stdout.close()
        demo.stderr.close()
        demo.send_signal(signal.SIGHUP)
        assert demo.wait(TIMEOUT) == 0
    finally:
        if demo.poll() is None:
            demo.terminate()
    assert list(temporary.iterdir()) == []


def test_taken_port(temporary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, _, err = finished(start("--check", "--port", str(port)))
    assert status == 1
    assert f"port {port} is taken" in err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_impossible_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--port", port])
    assert ended.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    assert main(["demo"]) == 1
    assert "asyncssh not found: pip install 'runicorn-remote[demo]'" in capsys.readouterr().err


def _in_order(lines: Sequence[str], patterns: Sequence[str]) -> bool:
    rest = iter(lines)
    return all(any(re.search(pattern, line) for line in rest) for pattern in patterns)
