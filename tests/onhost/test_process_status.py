from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from runicorn_remote.onhost import processes
from tests.onhost.viewer_host import LISTENS, SESSION, ViewerHost

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="looks into /proc")

# What runicorn 0.7.2 does after half an hour, in its words.
IDLE_EXIT = """
import logging, os, signal
words = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
logging.basicConfig(filename=os.environ["RUNICORN_LOG_FILE"], format=words)

def leave(*_):
    logging.getLogger("runicorn.viewer").warning(
        "No requests for 1801s (timeout=1800s). Shutting down remote-mode viewer.")
    os._exit(0)

signal.signal(signal.SIGUSR1, leave)
"""


def test_the_life_of_a_viewer(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    answer = {
        "session_id": SESSION,
        "alive": True,
        "state": "running",
        "idle_exit": False,
        "log_tail": ["listening"],
    }
    assert host.status(viewer) == answer
    os.kill(viewer["pid"], signal.SIGSTOP)
    assert host.status(viewer) == {**answer, "state": "stopped"}
    os.kill(viewer["pid"], signal.SIGKILL)
    wait_for_end(host, viewer)
    ended = host.status(viewer)
    # Where nobody waits for orphans they stay zombies, which is no less dead.
    assert ended["state"] in ("gone", "zombie")
    assert ended == {**answer, "alive": False, "state": ended["state"]}
    host.stop(viewer)
    assert host.status(viewer)["log_tail"] == []


def test_an_idle_exit_is_no_crash(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(IDLE_EXIT + LISTENS))
    os.kill(viewer["pid"], signal.SIGUSR1)
    wait_for_end(host, viewer)
    status = host.status(viewer)
    assert not status["alive"]
    assert status["idle_exit"]
    host.stop(viewer)


def test_a_pid_of_another_process_is_gone(host: ViewerHost) -> None:
    viewer = {"pid": os.getpid(), "start_time": "another", "directory": "/etc"}
    assert host.status(viewer)["state"] == "gone"
    assert not host.status(viewer)["alive"]
    assert not host.status(viewer, pid=None)["alive"]


def test_a_zombie_is_dead(host: ViewerHost) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    started = processes.start_time(child.pid)
    assert child.stdout is not None
    with child.stdout:
        child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    status = host.status({"pid": child.pid, "start_time": started, "directory": None})
    assert (status["alive"], status["state"]) == (False, "zombie")
    child.wait()


def test_many_at_once_in_their_order(host: ViewerHost) -> None:
    ids = [f"{number:08x}" for number in range(100)]
    asked = [{"session_id": name, "pid": 2**30, "start_time": "x", "directory": ""} for name in ids]
    answers = host.answer("process_status", processes=asked)["processes"]
    assert [answer["session_id"] for answer in answers] == ids
    assert host.answer("process_status", processes=[]) == {"processes": []}


def test_no_log_is_read_outside_of_a_private_directory(host: ViewerHost) -> None:
    (host.home / "viewer.log").write_text("secret")
    viewer = {"pid": 1, "start_time": "x"}
    for directory in (
        str(host.home),
        f"{host.directory}/../../../../..",
        "/",
        "\0",
        f"/runicorn-remote/\0/{SESSION}",
    ):
        assert host.status({**viewer, "directory": directory})["log_tail"] == []


def wait_for_end(host: ViewerHost, viewer: dict[str, object]) -> None:
    while viewer["pid"] in host.processes():
        os.sched_yield()
