from __future__ import annotations

import os
import signal
import subprocess

import pytest

from runicorn_remote.onhost import processes
from tests.onhost.viewer_host import IGNORES_SIGTERM, LISTENS, SESSION, ViewerHost, is_alive

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="looks into /proc")

PAUSES = "__import__('signal').pause()"
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def test_stopping_twice(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    assert host.stop(viewer) == {"stopped": True, "was_running": True, "killed": False}
    assert not is_alive(viewer["pid"])
    assert not host.directory.exists()
    assert host.stop(viewer) == {"stopped": True, "was_running": False, "killed": False}


def test_one_that_ignores_sigterm_is_killed(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(IGNORES_SIGTERM + LISTENS))
    assert host.stop(viewer, timeout=0.3) == {"stopped": True, "was_running": True, "killed": True}
    assert not is_alive(viewer["pid"])
    assert not host.directory.exists()


def test_one_that_is_suspended_is_ended(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    os.kill(viewer["pid"], signal.SIGSTOP)
    assert host.stop(viewer) == {"stopped": True, "was_running": True, "killed": False}


def test_children_end_with_their_viewer(host: ViewerHost) -> None:
    viewer = host.launch(
        environment=host.stand_in(f"import os\nif not os.fork():\n    os.fork()\n    {PAUSES}\n{LISTENS}")
    )
    assert len(host.processes()) == 3
    assert host.stop(viewer, timeout=0.3)["stopped"]
    assert host.processes() == []


def test_a_child_that_ignores_sigterm_ends_after_its_viewer(host: ViewerHost) -> None:
    forks = f"import os, signal\nif not os.fork():\n    {IGNORES}\n    {PAUSES}\n{LISTENS}"
    viewer = host.launch(environment=host.stand_in(forks))
    assert len(host.processes()) == 2
    assert host.stop(viewer, timeout=0.3) == {"stopped": True, "was_running": True, "killed": True}
    assert host.processes() == []


def test_a_reused_pid_is_left_alone(host: ViewerHost, bystander: subprocess.Popen[bytes]) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    reused = {**viewer, "pid": bystander.pid}
    assert host.stop(reused) == {"stopped": True, "was_running": False, "killed": False}
    assert bystander.poll() is None
    host.stop(viewer)


def test_a_record_of_a_reused_pid_is_left_alone(host: ViewerHost, bystander: subprocess.Popen[bytes]) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    os.kill(viewer["pid"], signal.SIGKILL)
    record = host.directory / "viewer.json"
    record.write_text(record.read_text().replace(str(viewer["pid"]), str(bystander.pid)))
    assert host.stop(viewer, pid=None) == {"stopped": True, "was_running": False, "killed": False}
    assert bystander.poll() is None
    assert not host.directory.exists()


@pytest.mark.parametrize("known", [{}, {"directory": None}])
def test_without_a_pid_the_record_tells(host: ViewerHost, known: dict[str, object]) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    unknown = {"pid": None, "start_time": None, **known}
    assert host.stop(viewer, **unknown) == {"stopped": True, "was_running": True, "killed": False}
    assert not is_alive(viewer["pid"])
    assert not host.directory.exists()


def test_a_session_that_never_was(host: ViewerHost) -> None:
    answer = host.answer("stop", session_id=SESSION, pid=None, start_time=None, directory=None, timeout=1)
    assert answer == {"stopped": True, "was_running": False, "killed": False}


def test_nothing_but_a_private_directory_is_removed(host: ViewerHost) -> None:
    viewer = host.launch(environment=host.stand_in(LISTENS))
    others = host.home / "elsewhere" / SESSION
    others.mkdir(parents=True)
    for name in ("viewer.log", "viewer.json"):
        (others / name).touch()
    for directory in (
        str(others),
        str(host.home),
        "/",
        "\0",
        f"{host.directory}/../../../../../elsewhere/{SESSION}",
    ):
        host.answer("stop", session_id="f" * 16, pid=None, directory=directory, timeout=1)
        host.answer("stop", session_id="f" * 16, pid=2**30, start_time="x", directory=directory, timeout=1)
    assert sorted(os.listdir(others)) == ["viewer.json", "viewer.log"]
    assert host.status(viewer)["alive"]
    host.stop(viewer, directory=str(others))
    assert sorted(os.listdir(others)) == ["viewer.json", "viewer.log"]


def test_the_pid_of_this_very_process_with_a_wrong_time(host: ViewerHost) -> None:
    started = processes.start_time(os.getpid())
    assert started
    answer = host.answer("stop", session_id=SESSION, pid=os.getpid(), start_time=started + "1", timeout=1)
    assert answer["was_running"] is False
