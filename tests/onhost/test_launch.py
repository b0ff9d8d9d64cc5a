from __future__ import annotations

import ast
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from importlib import resources
from pathlib import Path

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost import packing
from tests.onhost.viewer_host import (
    IGNORES_SIGTERM,
    LISTENS,
    NEVER_LISTENS,
    SESSION,
    Question,
    ViewerHost,
    is_alive,
)

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="looks into /proc")


def health(port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=20) as answer:
        return json.load(answer)


# The real viewer


def test_a_viewer_starts_outlives_its_launcher_and_stops(host: ViewerHost) -> None:
    viewer = host.launch(server="laptop")

    assert health(viewer["port"])["status"] == "ok"
    pid = viewer["pid"]
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert viewer["directory"] == str(host.directory)
    assert viewer["runicorn"] == "0.7.2"
    assert viewer["remote_root"] == str(host.storage)
    assert host.record() == {
        "session_id": SESSION,
        "server": "laptop",
        "pid": pid,
        "start_time": viewer["start_time"],
        "port": viewer["port"],
        "remote_root": str(host.storage),
        "python": viewer["python"],
        "hostname": os.uname().nodename,
        "launched_at": pytest.approx(time.time() * 1000, abs=100_000),
    }
    assert host.status(viewer)["state"] == "running"

    assert host.stop(viewer) == {"stopped": True, "was_running": True, "killed": False}
    assert not is_alive(pid)
    assert not host.directory.exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", viewer["port"]), 5)


def test_all_it_writes_is_private_and_in_its_own_directory(host: ViewerHost, tmp_path: Path) -> None:
    # By default /tmp/runicorn-viewer, where the second user of a machine fails.
    host.environ["RUNICORN_REMOTE_LOG_ROOT"] = str(tmp_path / "shared")
    viewer = host.launch()

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in host.directory.iterdir()}
    assert (modes["viewer.log"], modes["viewer.json"]) == (0o600, 0o600)
    for level in (host.directory, host.directory.parent, host.directory.parent.parent):
        assert stat.S_IMODE(level.stat().st_mode) == 0o700
    assert not (tmp_path / "shared").exists()
    assert "Diagnostics session started" in (host.directory / "viewer.log").read_text()
    host.stop(viewer)


def test_a_port_that_is_taken_between_look_and_bind_is_replaced(host: ViewerHost) -> None:
    asked = host.ask("launch", **host.launch_arguments())
    lost = asked.until("prepared")["port"]
    with socket.create_server(("127.0.0.1", lost)):
        assert asked.until("launched")["port"] == lost
        second = asked.until("launched")
        listening = asked.until("listening")
        asked.finish()
        assert lost != second["port"] == listening["port"]
        assert listening["pid"] == second["pid"]
        assert health(listening["port"])["status"] == "ok"
        assert host.record()["port"] == listening["port"]
    host.stop(second)


def test_a_requested_port_is_used_or_replaced_if_taken(host: ViewerHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        viewer = host.launch(port=taken, environment=host.stand_in(LISTENS))
        assert viewer["requested_port"] == taken != viewer["port"]
        host.stop(viewer)
    viewer = host.launch(port=taken)
    assert viewer["requested_port"] == taken == viewer["port"]
    host.stop(viewer)


def test_a_planted_module_is_not_imported(host: ViewerHost, tmp_path: Path) -> None:
    host.storage.mkdir()
    planted = f"open({str(tmp_path / 'pwned')!r}, 'w').close()\nraise SystemExit(3)\n"
    for directory in (host.storage, host.home):
        (directory / "runicorn.py").write_text(planted)
        (directory / "logging.py").write_text(planted)
    asked = Question("launch", host.launch_arguments(), host.environ, cwd=host.storage)
    launched = asked.until("launched")
    port = asked.until("listening")["port"]
    asked.finish()
    assert health(port)["version"] == "0.7.2"
    assert not (tmp_path / "pwned").exists()
    host.stop(launched)


# A viewer that does not start


def test_a_viewer_that_dies_is_told_at_once_with_its_log(host: ViewerHost) -> None:
    dies = "import sys, time\nprint('the disk', end=' ', flush=True)\nsys.exit('is full: %r' % time.time())\n"
    answers = host.answers("launch", **host.launch_arguments(environment=host.stand_in(dies)))
    told = time.time()
    assert [answer["event"] for answer in answers] == ["prepared", "launched", "exited"]
    assert answers[-1]["status"] == 1
    (line,) = answers[-1]["log_tail"]
    assert line.startswith("the disk is full: ")
    assert told - float(line.rpartition(" ")[2]) < 2
    assert not host.directory.exists()


def test_a_flood_of_output_gives_a_short_tail(host: ViewerHost) -> None:
    floods = (
        "import os\nprint('x' * 999 + '\\n' * 3, end='')\nprint(('y' * 999 + '\\n') * 10_000)\nos.abort()\n"
    )
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(floods)))
    exited = asked.until("exited")
    asked.finish()
    assert exited["status"] == -signal.SIGABRT
    assert 5 < len(exited["log_tail"]) <= 20
    assert {line for line in exited["log_tail"] if line.startswith("y")} == {"y" * 300}


def test_children_of_a_viewer_that_died_are_ended(host: ViewerHost) -> None:
    forks = f"import os, sys\nif os.fork():\n    sys.exit(1)\n{NEVER_LISTENS}"
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(forks)))
    assert asked.until("exited")["status"] == 1
    asked.finish()
    assert wait_until_empty(host)


def test_a_viewer_that_never_listens_is_ended_at_the_deadline(host: ViewerHost) -> None:
    stand_in = host.stand_in(IGNORES_SIGTERM + NEVER_LISTENS)
    answers = host.answers("launch", **host.launch_arguments(environment=stand_in, timeout=1))
    assert answers[-1]["error"] == "VIEWER_START_TIMEOUT"
    assert answers[-1]["log_tail"] == ["waiting for the disk"]
    assert not is_alive(answers[1]["pid"])
    assert not host.directory.exists()


def test_the_listener_of_another_process_is_never_taken_for_the_viewer(host: ViewerHost) -> None:
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(NEVER_LISTENS), timeout=2))
    with socket.create_server(("127.0.0.1", asked.until("prepared")["port"])):
        assert [event.get("event", event.get("error")) for event in asked.events()] == [
            "launched",
            "VIEWER_START_TIMEOUT",
        ]
    asked.finish()


def test_the_number_of_ports_tried_is_limited(host: ViewerHost) -> None:
    unlucky = "import sys\nsys.exit('ERROR: [Errno 98] error while attempting to bind on address')\n"
    stand_in = host.stand_in(unlucky)
    answers = host.answers("launch", **host.launch_arguments(environment=stand_in, ports_tried=3))
    assert [answer["event"] for answer in answers] == ["prepared"] + ["launched"] * 3 + ["exited"]
    assert len({answer["port"] for answer in answers[1:4]}) == 3


def test_a_listener_in_a_child_of_the_viewer_counts(host: ViewerHost) -> None:
    # As where the environment's `python` is a script around the real one.
    wrapped = f"import os, signal\nif os.fork():\n    signal.pause()\n{LISTENS}"
    viewer = host.launch(environment=host.stand_in(wrapped))
    assert len(host.processes()) == 2
    assert host.stop(viewer)["stopped"]
    assert wait_until_empty(host)


# Taking a start back


@pytest.mark.parametrize("behaviour", ["", IGNORES_SIGTERM], ids=["polite", "ignores SIGTERM"])
def test_a_closed_channel_ends_the_viewer(host: ViewerHost, behaviour: str) -> None:
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(behaviour + NEVER_LISTENS)))
    pid = asked.until("launched")["pid"]
    assert asked.finish() == ""
    assert not is_alive(pid)
    assert not host.directory.exists()


def test_a_channel_closed_before_the_launch_leaves_nothing(host: ViewerHost) -> None:
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(NEVER_LISTENS)))
    asked.finish()
    assert not host.processes()
    assert not host.directory.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signalled_launcher_ends_its_viewer(host: ViewerHost, number: signal.Signals) -> None:
    asked = host.ask("launch", **host.launch_arguments(environment=host.stand_in(NEVER_LISTENS)))
    pid = asked.until("launched")["pid"]
    os.killpg(asked.shell.pid, number)
    assert [event["error"] for event in asked.events()] in (["START_CANCELLED"], [])
    asked.finish()
    assert not is_alive(pid)
    assert not host.directory.exists()


# What it refuses


@pytest.mark.parametrize(
    "session_id", ["../../../etc", "0123456", "0" * 33, "ABCDEF0123", "01234567\n", 12345678, None]
)
@pytest.mark.parametrize("question", ["launch", "stop", "process_status"])
def test_only_a_session_id_is_a_session_id(host: ViewerHost, question: str, session_id: object) -> None:
    process = {"session_id": session_id, "pid": 1, "start_time": "x", "directory": "/etc"}
    arguments = {"processes": [process]} if question == "process_status" else {**process, "remote_root": "~"}
    with pytest.raises(RemoteCommandFailed) as refused:
        host.answer(question, **arguments)
    assert refused.value.code == "INVALID_VALUE"


def test_a_second_viewer_of_a_session_is_refused_and_the_first_goes_on(host: ViewerHost) -> None:
    stand_in = host.stand_in(LISTENS)
    viewer = host.launch(environment=stand_in)
    with pytest.raises(RemoteCommandFailed) as refused:
        host.answer("launch", **host.launch_arguments(environment=stand_in))
    assert refused.value.code == "VIEWER_RUNNING"
    assert host.status(viewer)["alive"]
    host.stop(viewer)
    # The directory of one that is gone is used again.
    viewer = host.launch(environment=stand_in)
    os.kill(viewer["pid"], signal.SIGKILL)
    host.stop(host.launch(environment=stand_in))


def test_an_unknown_environment_is_refused(host: ViewerHost) -> None:
    with pytest.raises(
        RemoteCommandFailed, match=r"Environment 'nowhere' not found\. Please check"
    ) as refused:
        host.answer("launch", **host.launch_arguments(environment="nowhere"))
    assert refused.value.code == "ENVIRONMENT_NOT_FOUND"
    assert not host.directory.exists()


def test_the_interpreter_of_a_name_that_is_gone_is_used(host: ViewerHost) -> None:
    stand_in = host.stand_in(LISTENS)
    python = stand_in + "/bin/python"
    viewer = host.launch(environment="renamed", python=python)
    assert viewer["python"] == python
    host.stop(viewer)


def test_an_environment_without_runicorn_is_named(host: ViewerHost) -> None:
    prefix = host.stand_in("", version=None)
    with pytest.raises(RemoteCommandFailed) as refused:
        host.answer("launch", **host.launch_arguments(environment=prefix))
    assert refused.value.code == "RUNICORN_NOT_INSTALLED"
    assert f"{prefix}/bin/python -m pip install runicorn" in str(refused.value)


def test_a_runicorn_without_metadata_is_found(host: ViewerHost, tmp_path: Path) -> None:
    prefix = host.stand_in("", version=None)
    (tmp_path / "checkout/runicorn").mkdir(parents=True)
    (tmp_path / "checkout/runicorn/__init__.py").touch()
    (tmp_path / "checkout/runicorn/__main__.py").write_text(LISTENS)
    host.environ["PYTHONPATH"] = str(tmp_path / "checkout")
    viewer = host.launch(environment=prefix)
    assert viewer["runicorn"] is None
    host.stop(viewer)


@pytest.mark.parametrize("version", ["0.7.2", "0.6.0"])
def test_the_command_line(host: ViewerHost, version: str) -> None:
    says = f"import json, sys\nprint(json.dumps(sys.argv[1:]), flush=True)\n{LISTENS}"
    viewer = host.launch(environment=host.stand_in(says, version), idle_timeout=90.0)
    idle = ["--idle-timeout", "90"] if version == "0.7.2" else []
    assert json.loads(host.status(viewer)["log_tail"][0]) == [
        *["viewer", "--storage", str(host.storage), "--host", "127.0.0.1", "--port", str(viewer["port"])],
        *["--remote-mode", "--log-level", "INFO", *idle],
    ]
    host.stop(viewer)


# The storage root

HOSTILE = [
    "a 'quote' and a \"quote\"",
    "$(touch pwned) `touch pwned` ; touch pwned & touch pwned",
    "two\nlines\n'; touch pwned",
    "--host=0.0.0.0",
    "-rf",
    "größe 測試 \U0001f984",
    "%s {0} \\n",
    "'; __import__('os').system('touch pwned')",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_file_name_is_only_a_name(host: ViewerHost, name: str) -> None:
    makes = f"import os, sys\nos.mkdir(sys.argv[sys.argv.index('--storage') + 1])\n{LISTENS}"
    viewer = host.launch(environment=host.stand_in(makes), remote_root=name)
    assert viewer["remote_root"] == f"{host.home}/{name}"
    host.stop(viewer)
    assert set(os.listdir(host.home)) == {".local", "stand-in", name}


@pytest.mark.parametrize(
    ("root", "code"),
    [
        ("~/missing/storage", "PATH_NOT_FOUND"),
        ("~nobody-of-this-name/storage", "PATH_NOT_FOUND"),
        ("~/file", "NOT_A_DIRECTORY"),
        ("~/file/storage", "NOT_A_DIRECTORY"),
        ("~/dangling", "PATH_NOT_FOUND"),
        ("~/" + "x" * 300, "INVALID_PATH"),
        ("/" + "x/" * 50_000, "INVALID_PATH"),
        ("~/nul\0", "INVALID_PATH"),
        ("~/surrogate\udce9", "INVALID_PATH"),
        ("", "INVALID_PATH"),
    ],
)
def test_a_root_that_cannot_be_one(host: ViewerHost, root: str, code: str) -> None:
    (host.home / "file").touch()
    (host.home / "dangling").symlink_to(host.home / "nothing")
    with pytest.raises(RemoteCommandFailed) as refused:
        host.answer("launch", **host.launch_arguments(remote_root=root))
    assert refused.value.code == code
    assert not host.directory.exists()


def test_a_root_of_others_is_forbidden(host: ViewerHost, tmp_path: Path) -> None:
    (tmp_path / "closed/storage").mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    # Nothing is closed for root.
    identity = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    environ = {"PATH": "/usr/bin:/bin", "HOME": "/"}
    for root in (tmp_path / "closed/storage", Path("/usr/storage"), Path("/usr")):
        asked = Question("launch", host.launch_arguments(remote_root=str(root)), environ, **identity)
        answers = list(asked.events())
        assert [answer.get("error") for answer in answers] == ["PATH_FORBIDDEN"], asked.finish()
        asked.finish()
    (tmp_path / "closed").chmod(0o700)


def test_a_linked_private_directory_is_refused(host: ViewerHost, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    host.directory.parent.mkdir(parents=True)
    host.directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RemoteCommandFailed, match="symbolic link") as refused:
        host.answer("launch", **host.launch_arguments(environment=host.stand_in(LISTENS)))
    assert refused.value.code == "PRIVATE_DIRECTORY_UNSAFE"
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_home_that_cannot_be_written_to(host: ViewerHost, tmp_path: Path) -> None:
    (host.home / ".local").touch()
    viewer = host.launch(environment=host.stand_in(LISTENS))
    assert viewer["directory"].startswith(f"{tmp_path}/runicorn-remote-")
    # Also without knowing where.
    assert host.stop(viewer, directory=None, pid=None)["was_running"]
    assert not list(tmp_path.glob("runicorn-remote-*"))


# The programs themselves


@pytest.mark.parametrize("question", ["launch", "node_relay", "process_status", "stop"])
def test_the_modules_of_a_program_do_not_overwrite_each_other(question: str) -> None:
    sources: dict[str, str] = {}
    packing._collect(question, sources)
    owners: dict[str, str] = {}
    for module, source in sources.items():
        for node in ast.parse(source, feature_version=(3, 6)).body:
            names = [getattr(node, "name", None)]
            if isinstance(node, ast.Assign):
                names += [target.id for target in node.targets if isinstance(target, ast.Name)]
            owner = module
            if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("runicorn_remote."):
                names, owner = [alias.name for alias in node.names], f"import {node.module}"
            for name in filter(None, names):
                assert owners.setdefault(name, owner) == owner, name


@pytest.mark.parametrize(
    "path", sorted(resources.files(onhost).joinpath().glob("*.py")), ids=lambda path: path.name
)
def test_python_3_6_can_read_it(path: Path) -> None:
    if path.name not in ("__init__.py", "packing.py"):  # These run here.
        ast.parse(path.read_bytes().decode("ascii"), feature_version=(3, 6))


def test_python_3_6_can_run_it(host: ViewerHost) -> None:
    old = old_python()
    if old is None:
        pytest.skip("there is no Python 3.6 here")
    host.environ.update(PATH=f"{os.path.dirname(old)}:{host.environ['PATH']}", LC_ALL="C")
    viewer = host.launch(remote_root="~/größe", environment=host.stand_in(LISTENS))
    assert viewer["remote_root"] == f"{host.home}/größe"
    assert host.status(viewer)["alive"]
    assert host.stop(viewer)["was_running"]


def old_python() -> str | None:
    directories = os.environ["PATH"].split(os.pathsep)
    directories += [
        str(path) for path in Path(pwd.getpwuid(os.getuid()).pw_dir).glob(".pyenv/versions/3.6.*/bin")
    ]
    for directory in directories:
        # A shim is there for every version, and works for none but the selected.
        python = os.path.join(directory, "python3")
        if os.path.exists(os.path.join(directory, "python3.6")) and os.path.exists(python):
            said = subprocess.run([python, "-V"], capture_output=True, text=True).stdout
            if said.startswith("Python 3.6."):
                return python
    return None


def wait_until_empty(host: ViewerHost) -> bool:
    deadline = time.monotonic() + 10
    while host.processes() and time.monotonic() < deadline:
        os.sched_yield()
    return not host.processes()
