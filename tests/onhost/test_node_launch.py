from __future__ import annotations

import contextlib
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from tests.hosts.cluster import Cluster
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import SERVES
from tests.hosts.waiting import until
from tests.onhost.test_launch import old_python
from tests.onhost.viewer_host import IGNORES_SIGTERM, LISTENS, NEVER_LISTENS, ViewerHost, is_alive

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="looks into /proc")

SOON = 20.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def through(template: list[str], **more: Any) -> dict[str, Any]:
    return {"template": template, "relay": onhost.relay_program(), **more}


def srun(cluster: Cluster, job: str = "123", **more: Any) -> dict[str, Any]:
    return through([str(cluster.srun), "--jobid", job, "{command}"], **more)


def failure_of(host: ViewerHost, **arguments: Any) -> dict[str, Any]:
    answer = host.answers("launch", **host.launch_arguments(**arguments))[-1]
    assert "error" in answer, answer
    until(lambda: not host.processes(), SOON, lambda: f"left: {host.processes()}")
    assert not host.directory.exists()
    return answer


def answers(viewer: dict[str, Any]) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{viewer['port']}/api/health", timeout=20) as answer:
        return bool(answer.status == 200)


def is_empty(host: ViewerHost) -> None:
    until(lambda: not host.processes(), SOON, lambda: f"left: {host.processes()}")


def test_the_relay_is_in_the_place_of_the_viewer(host: ViewerHost, cluster: Cluster) -> None:
    viewer = host.launch(**srun(cluster, environment=host.stand_in(LISTENS)))
    assert viewer["node"] == socket.gethostname()
    assert host.record()["pid"] == viewer["pid"]
    assert host.status(viewer)["alive"]
    for name in ("relay.py", "node.sh", "node", "viewer.log"):
        assert (host.directory / name).stat().st_mode & 0o777 == 0o600
    assert host.status(viewer)["log_tail"][-1] == "listening"
    assert host.stop(viewer)["was_running"]
    is_empty(host)
    assert not host.directory.exists()
    assert not list(Path(host.environ["TMPDIR"]).glob("runicorn-remote-node-*"))


@pytest.mark.parametrize("victim", ["relay", "srun"])
def test_when_one_of_the_chain_is_killed_the_rest_ends(
    host: ViewerHost, cluster: Cluster, victim: str
) -> None:
    viewer = host.launch(**srun(cluster, environment=host.stand_in(IGNORES_SIGTERM + LISTENS)))
    victims = {viewer["pid"]} if victim == "relay" else cluster.srun_processes()
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    is_empty(host)
    assert host.status(viewer)["alive"] is False
    host.stop(viewer)


@pytest.mark.sshd
def test_ssh_as_the_launch_command(host: ViewerHost, tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    with SshServer(tmp_path / "node", home=host.home) as node:
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        ssh = ["ssh", "-T", "-F", "none", *options, "-i", str(node.client_key), "-p", str(node.port)]
        template = [*ssh, f"{node.username}@{node.host}", "{command}"]
        arguments = through(template, environment=host.stand_in(SERVES))
        for end in ("stop", "cut"):
            viewer = host.launch(**arguments)
            assert answers(viewer)
            until(lambda: "200 -" in host.status(viewer)["log_tail"][-1], SOON, "its log is passed on")  # noqa: B023
            if end == "cut":
                node.kill_connections()
            else:
                host.stop(viewer)
            is_empty(host)
        host.stop(viewer)


def test_python_3_6_can_relay(host: ViewerHost, cluster: Cluster) -> None:
    old = old_python()
    if old is None:
        pytest.skip("there is no Python 3.6 here")
    host.environ.update(PATH=f"{os.path.dirname(old)}:{host.environ['PATH']}", LC_ALL="C")
    viewer = host.launch(**srun(cluster, remote_root="~/größe", environment=host.stand_in(SERVES)))
    assert os.path.realpath(f"/proc/{viewer['pid']}/exe") == os.path.realpath(old)
    assert answers(viewer)
    assert host.stop(viewer)["was_running"]
    is_empty(host)


def test_a_program_that_is_not_there(host: ViewerHost) -> None:
    failure = failure_of(
        host, **through(["/opt/slurm/bin/srun", "{command}"], environment=host.stand_in(LISTENS))
    )
    assert failure["error"] == "LAUNCH_COMMAND_FAILED"
    assert "(/opt/slurm/bin/srun)" in failure["message"]
    assert failure["log_tail"][-1].endswith("/opt/slurm/bin/srun: No such file or directory")


def test_a_job_that_is_over(host: ViewerHost, cluster: Cluster) -> None:
    failure = failure_of(host, **srun(cluster, "7", environment=host.stand_in(LISTENS)))
    assert failure["error"] == "LAUNCH_COMMAND_FAILED"
    assert "srun: error: Invalid job id specified" in failure["log_tail"]


def test_a_node_without_that_python(host: ViewerHost) -> None:
    prefix = host.stand_in(LISTENS)
    elsewhere = ["sh", "-c", f'rm {prefix}/bin/python; exec "$@"', "node", "{command}"]
    failure = failure_of(host, **through(elsewhere, environment=prefix))
    assert failure["error"] == "NODE_PYTHON_NOT_FOUND"
    assert failure["message"] == f"the compute node has no {prefix}/bin/python"


def test_a_node_without_that_home(host: ViewerHost) -> None:
    elsewhere = ["sh", "-c", 'exec "$1" "$2.gone"', "node", "{command}"]
    failure = failure_of(host, **through(elsewhere, environment=host.stand_in(LISTENS)))
    assert failure["error"] == "LAUNCH_COMMAND_FAILED"
    assert "node.sh.gone" in failure["log_tail"][-1]


def test_a_command_that_waits_for_a_node_for_ever(host: ViewerHost) -> None:
    waits = ["sh", "-c", "echo queued >&2; sleep 1000", "srun", "{command}"]
    failure = failure_of(host, **through(waits, environment=host.stand_in(LISTENS), timeout=1))
    assert failure["error"] == "VIEWER_START_TIMEOUT"
    assert failure["message"] == "The launch command (sh) did not reach a compute node in time"
    assert failure["log_tail"] == ["queued"]


def test_a_viewer_that_never_listens_there(host: ViewerHost, cluster: Cluster) -> None:
    failure = failure_of(host, **srun(cluster, environment=host.stand_in(NEVER_LISTENS), timeout=3))
    assert failure["error"] == "VIEWER_START_TIMEOUT"
    assert failure["message"] == f"The viewer on {socket.gethostname()} did not listen in time"
    assert "waiting for the disk" in failure["log_tail"]


def test_a_viewer_that_dies_there(host: ViewerHost, cluster: Cluster) -> None:
    dies = host.stand_in("import sys\nsys.exit('the index is broken')\n")
    answers = host.answers("launch", **host.launch_arguments(**srun(cluster, environment=dies)))
    assert [answer["event"] for answer in answers] == ["prepared", "launched", "exited"]
    assert answers[-1]["status"] == 1
    assert "the index is broken" in answers[-1]["log_tail"]
    is_empty(host)


def test_a_port_that_is_taken_on_the_login_node_is_replaced(host: ViewerHost, cluster: Cluster) -> None:
    arguments = host.launch_arguments(**srun(cluster, environment=host.stand_in(LISTENS)))
    asked = host.ask("launch", **arguments)
    lost = asked.until("prepared")["port"]
    with socket.create_server(("127.0.0.1", lost)):
        launched = asked.until("launched")
        listening = asked.until("listening") if launched["port"] != lost else None
        if listening is None:
            launched = asked.until("launched")
            listening = asked.until("listening")
        assert listening["port"] != lost
    asked.finish()
    host.stop(launched)
    is_empty(host)


def test_what_a_command_prints_in_between_ends_it(host: ViewerHost) -> None:
    prints = host.home / "prints"
    # A background command of sh has no input: it is given ours.
    lines = ["#!/bin/sh", "exec 3<&0", '"$@" <&3 3<&- &', "exec 3<&- <&-"]
    lines += ['while [ ! -e "$HOME/now" ]; do sleep 0.05; done', "echo noise", "rm $HOME/now", "wait"]
    prints.write_text("\n".join(lines))
    prints.chmod(0o755)
    viewer = host.launch(**through([str(prints), "{command}"], environment=host.stand_in(SERVES)))
    (host.home / "now").touch()
    until(lambda: not (host.home / "now").exists(), SOON, "it has printed")
    # What is shorter than a frame shows with the next one.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", viewer["port"]), 10) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.recv(1)
    until(lambda: not is_alive(viewer["pid"]), SOON, "the relay has ended")
    tail = host.status(viewer)["log_tail"]
    assert any("what comes through the launch command is not ours" in line for line in tail)
    is_empty(host)
    host.stop(viewer)


def test_a_start_that_is_taken_back_leaves_nothing(host: ViewerHost, cluster: Cluster) -> None:
    arguments = host.launch_arguments(**srun(cluster, environment=host.stand_in(NEVER_LISTENS)))
    asked = host.ask("launch", **arguments)
    asked.until("launched")
    until(lambda: len(host.processes()) >= 4, SOON, lambda: str(host.processes()))
    asked.finish()
    is_empty(host)
    assert not host.directory.exists()


def test_any_path_is_only_a_path(host: ViewerHost, cluster: Cluster) -> None:
    name = "größe 'q' $(touch pwned) --port"
    makes = f"import os, sys\nos.mkdir(sys.argv[sys.argv.index('--storage') + 1])\n{LISTENS}"
    viewer = host.launch(**srun(cluster, environment=host.stand_in(makes), remote_root=name))
    assert viewer["remote_root"] == f"{host.home}/{name}"
    assert (host.home / name).is_dir()
    host.stop(viewer)


def test_a_login_node_that_does_not_tell_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    from runicorn_remote.onhost import node_launch
    from runicorn_remote.onhost.common import Failure

    monkeypatch.setattr(node_launch, "tells_owners", lambda: False)
    with pytest.raises(Failure) as refused:
        node_launch.NodeLaunch(["srun", "{command}"], "")
    assert refused.value.answer["error"] == "LAUNCH_HOST_UNSUPPORTED"


def test_stopping_by_the_session_alone(host: ViewerHost, cluster: Cluster) -> None:
    viewer = host.launch(**srun(cluster, environment=host.stand_in(LISTENS)))
    assert host.stop(viewer, directory=None, pid=None)["was_running"]
    is_empty(host)
    with pytest.raises(RemoteCommandFailed):
        host.answer("viewer_log", session_id="0123456789abcdef", directory=None, lines=5)
