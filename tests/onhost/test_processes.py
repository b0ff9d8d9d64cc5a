from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runicorn_remote.onhost import processes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs on POSIX systems only")

Spawn = Callable[..., "subprocess.Popen[bytes]"]
WAITS = "import signal\nprint(flush=True)\nsignal.pause()"
IGNORES_SIGTERM = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{WAITS}"


@pytest.fixture(params=["proc", "ps"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Linux reads /proc; what other systems do, asking `ps`, works on Linux too."""
    if request.param == "ps":
        monkeypatch.setattr(processes, "has_proc", lambda: False)
    elif not processes.has_proc():
        pytest.skip("no /proc")
    return request.param


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a Python program in a session of its own, and return when it has printed a line."""
    started = []

    def spawn(program: str, *, leader: bool = True) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=leader
        )
        started.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield spawn
    for child in started:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def test_a_start_time_belongs_to_one_process(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS)
    started = processes.start_time(child.pid)
    assert started
    assert processes.start_time(child.pid) == started
    assert processes.is_ours(child.pid, started)
    assert not processes.is_ours(child.pid, started + "0")
    assert not processes.is_ours(child.pid, None)
    child.kill()
    child.wait()
    assert processes.start_time(child.pid) is None
    assert processes.state(child.pid) == "gone"
    assert not processes.is_ours(child.pid, started)


def test_a_start_time_is_the_same_for_every_caller(
    system: str, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = spawn(WAITS)
    started = processes.start_time(child.pid)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert processes.start_time(child.pid) == started


def test_two_processes_are_told_apart(spawn: Spawn) -> None:
    assert processes.start_time(spawn(WAITS).pid) != processes.start_time(os.getpid())


def test_states(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS)
    started = processes.start_time(child.pid)
    assert processes.state(child.pid) == "running"
    os.kill(child.pid, signal.SIGSTOP)
    until(lambda: processes.state(child.pid) == "stopped")
    assert processes.is_ours(child.pid, started)
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: processes.state(child.pid) == "zombie")
    assert not processes.is_ours(child.pid, started)
    if system == "proc":
        assert processes.start_time(child.pid) == started


@pytest.mark.skipif(not processes.has_proc(), reason="names are read on Linux only")
def test_a_process_may_be_called_anything(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = tmp_path / "x) Z 1 2 (3"
    shutil.copy(os.path.realpath(sleep), program)
    with subprocess.Popen([program, "60"]) as child:
        assert processes.state(child.pid) == "running"
        child.kill()


@pytest.mark.parametrize("pid", [0, -1, None, "1", 2**40])
def test_what_is_no_pid_is_no_process(system: str, pid: int) -> None:
    assert processes.state(pid) == "gone"
    assert not processes.is_ours(pid, None)
    assert not processes.signal_group(pid, signal.SIGTERM, "")


def test_a_group_is_signalled_with_its_children(system: str, spawn: Spawn) -> None:
    child = spawn(f"import os\nos.fork()\n{WAITS}")
    until(lambda: len(processes.group_members(child.pid)) == 2)
    members = processes.group_members(child.pid)
    assert processes.signal_group(child.pid, signal.SIGKILL, processes.start_time(child.pid))
    until(lambda: not any(processes.is_ours(*member) for member in members))


def test_another_start_time_is_not_signalled(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS)
    assert not processes.signal_group(child.pid, signal.SIGKILL, "another")
    assert processes.end_group(child.pid, "another", 0.1)[0]
    assert child.poll() is None


def test_a_process_in_a_group_of_others_is_signalled_alone(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS, leader=False)
    assert processes.signal_group(child.pid, signal.SIGKILL, processes.start_time(child.pid))
    assert child.wait(10) == -signal.SIGKILL


def test_ending_politely(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS)
    assert processes.end_group(child.pid, processes.start_time(child.pid), 20) == (True, False)
    assert child.wait(10) == -signal.SIGTERM


def test_a_stopped_process_is_ended_politely(system: str, spawn: Spawn) -> None:
    child = spawn(WAITS)
    os.kill(child.pid, signal.SIGSTOP)
    until(lambda: processes.state(child.pid) == "stopped")
    assert processes.end_group(child.pid, processes.start_time(child.pid), 20) == (True, False)
    assert child.wait(10) == -signal.SIGTERM


def test_ending_by_force(system: str, spawn: Spawn) -> None:
    child = spawn(IGNORES_SIGTERM)
    assert processes.end_group(child.pid, processes.start_time(child.pid), 0.2) == (True, True)
    assert child.wait(10) == -signal.SIGKILL


def test_one_that_waits_after_sigterm_leaves_at_a_sigint(system: str, spawn: Spawn) -> None:
    child = spawn(
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\nsignal.pause()"
    )
    assert processes.end_group(child.pid, processes.start_time(child.pid), 10) == (True, False)
    assert child.wait(10) == -signal.SIGINT


@pytest.mark.parametrize("reaped", [True, False])
def test_a_child_that_outlives_its_leader_is_ended(system: str, spawn: Spawn, reaped: bool) -> None:
    child = spawn(
        "import os, signal\n"
        "if not os.fork():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    print(flush=True)\n"
        "signal.pause()"
    )
    (orphan,) = [member for member in processes.group_members(child.pid) if member[0] != child.pid]
    # Whether the leader stays a zombie is up to its parent; once it is gone its number leads nowhere.
    waiter = threading.Thread(target=child.wait, name="waiter")
    if reaped:
        waiter.start()
    assert processes.end_group(child.pid, processes.start_time(child.pid), 0.5) == (True, True)
    assert not processes.is_ours(*orphan)
    if reaped:
        waiter.join(10)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()
