"""What the demo's check finds if something does stay behind."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from runicorn_remote.demo import leftovers


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays there in these tests: no need to wait for its end."""
    monkeypatch.setattr(leftovers, "_TIMEOUT", 0.2)


@pytest.fixture
def marker() -> str:
    return f"RUNICORN_DEMO={secrets.token_hex(8)}"


@pytest.fixture
def child(marker: str) -> Iterator[subprocess.Popen[bytes]]:
    name, value = marker.split("=")
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, name: value}
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # by now it has its own environment
        yield child
        child.kill()


def test_process_by_pid(child: subprocess.Popen[bytes]) -> None:
    (found,) = leftovers.processes([child.pid], "RUNICORN_DEMO=another")
    assert found.startswith(f"process {child.pid}")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of processes")
def test_process_by_marker(child: subprocess.Popen[bytes], marker: str) -> None:
    (found,) = leftovers.processes([], marker)
    assert found.startswith(f"process {child.pid}")
    leftovers.kill_marked(marker)
    assert child.wait(10) == -9
    assert leftovers.processes([], marker) == []


def test_ended_process_that_nobody_has_asked_for(child: subprocess.Popen[bytes], marker: str) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert leftovers.processes([child.pid], marker) == []


def test_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert leftovers.ports([port]) == [f"port {port} on 127.0.0.1"]
    assert leftovers.ports([port]) == []


def test_thread() -> None:
    before = set(threading.enumerate())
    end = threading.Event()
    thread = threading.Thread(target=end.wait, args=(10,), name="forgotten")
    thread.start()
    try:
        assert leftovers.threads(before) == ["thread forgotten"]
    finally:
        end.set()
        thread.join(10)
    assert leftovers.threads(before) == []
