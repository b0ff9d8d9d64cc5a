"""An account to start viewers in, asked the way it is asked over SSH: a script for `sh -s` on stdin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed

SESSION = "0123456789abcdef"
# Programs that stand in for runicorn where its own behaviour cannot be had on demand.
ARGV = "import sys\nport = int(sys.argv[sys.argv.index('--port') + 1])\n"
LISTENS = ARGV + (
    "import signal, socket\nserver = socket.socket()\nserver.bind(('127.0.0.1', port))\nserver.listen()\n"
    "print('listening', flush=True)\nwhile True:\n    signal.pause()\n"
)
NEVER_LISTENS = "import signal\nprint('waiting for the disk', flush=True)\nwhile True:\n    signal.pause()\n"
IGNORES_SIGTERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


class Question:
    """One question that is being answered."""

    def __init__(
        self, question: str, arguments: dict[str, Any], environ: dict[str, str], **popen: Any
    ) -> None:
        self._program = onhost.build(question, arguments)
        self.shell = subprocess.Popen(
            ["sh", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            start_new_session=True,
            **popen,
        )
        assert self.shell.stdin is not None
        self.shell.stdin.write(self._program.script.encode("ascii"))
        self.shell.stdin.close()

    def events(self) -> Iterator[dict[str, Any]]:
        assert self.shell.stdout is not None
        for line in self.shell.stdout:
            event = self._program.event(line)
            if event is not None:
                yield event

    def until(self, name: str) -> dict[str, Any]:
        for event in self.events():
            if event.get("event") == name or "error" in event:
                assert event.get("event") == name, event
                return event
        raise AssertionError(f"no event {name}: {self.finish()!r}")

    def finish(self) -> str:
        """Close our ends, wait, and return what went to stderr."""
        assert self.shell.stdout is not None
        assert self.shell.stderr is not None
        self.shell.stdout.close()
        with self.shell.stderr:
            said = self.shell.stderr.read().decode()
        self.shell.wait(30)
        return said


class ViewerHost:
    """One account of a host: its home, its environments, its viewers."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir(0o700)
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "RUNICORN"))
        }
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        self.environ.update(HOME=str(self.home), TMPDIR=str(directory), PATH=path)
        self.storage = self.home / "storage"
        self.directory = self.home / ".local/state/runicorn-remote" / os.uname().nodename / SESSION

    def ask(self, question: str, **arguments: Any) -> Question:
        return Question(question, arguments, self.environ)

    def answers(self, question: str, **arguments: Any) -> list[dict[str, Any]]:
        asked = self.ask(question, **arguments)
        answers = list(asked.events())
        said = asked.finish()
        assert answers, said
        return answers

    def answer(self, question: str, **arguments: Any) -> dict[str, Any]:
        answer = self.answers(question, **arguments)[-1]
        if "error" in answer:
            raise RemoteCommandFailed(answer["message"], code=answer["error"])
        return answer

    def launch(self, **arguments: Any) -> dict[str, Any]:
        """Launch and wait for the end of the launcher: `launched` and `listening` in one."""
        answers = self.answers("launch", **self.launch_arguments(**arguments))
        assert [answer.get("event") for answer in answers] == ["prepared", "launched", "listening"], answers
        return {**answers[0], **answers[1], **answers[2]}

    def launch_arguments(self, **arguments: Any) -> dict[str, Any]:
        """With the environment that has the real runicorn, unless said otherwise."""
        defaults = {
            "session_id": SESSION,
            "remote_root": str(self.storage),
            "environment": sys.prefix,
            "timeout": 60,
        }
        return {**defaults, **arguments}

    def stop(self, launched: dict[str, Any], **arguments: Any) -> dict[str, Any]:
        process = {name: launched[name] for name in ("pid", "start_time", "directory")}
        return self.answer("stop", **{"session_id": SESSION, "timeout": 20, **process, **arguments})

    def status(self, launched: dict[str, Any], **changed: Any) -> dict[str, Any]:
        process = {name: launched[name] for name in ("pid", "start_time", "directory")}
        asked = {"session_id": SESSION, **process, **changed}
        (answer,) = self.answer("process_status", processes=[asked])["processes"]
        return answer

    def stand_in(self, program: str, version: str | None = "0.7.2") -> str:
        """A virtual environment whose `runicorn` is this program; returns its name (its path)."""
        prefix = self.home / "stand-in"
        series = f"{sys.version_info[0]}.{sys.version_info[1]}"
        site = prefix / f"lib/python{series}/site-packages"
        site.mkdir(parents=True)
        (prefix / "bin").mkdir()
        base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
        (prefix / "bin/python").symlink_to(base)
        (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\nversion = {series}.0\n")
        if version:
            metadata = site / f"runicorn-{version}.dist-info"
            metadata.mkdir()
            (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: runicorn\nVersion: {version}\n")
            (site / "runicorn").mkdir()
            (site / "runicorn/__init__.py").touch()
            (site / "runicorn/__main__.py").write_text(program)
        return str(prefix)

    def record(self) -> dict[str, Any]:
        return json.loads((self.directory / "viewer.json").read_text())

    def processes(self) -> list[int]:
        """All processes of this account that a viewer start left: they carry its marker."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and is_alive(int(name)):
                try:
                    environ = Path("/proc", name, "environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"HOME=" + os.fsencode(self.home) in environ and any(
                    variable.startswith(b"RUNICORN_REMOTE_SESSION=") for variable in environ
                ):
                    found.append(int(name))
        return found

    def end_all(self) -> list[int]:
        """Kill what is left, and say what that was."""
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"
