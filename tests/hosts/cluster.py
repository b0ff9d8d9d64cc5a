"""A cluster of one login node and one compute node: a stand-in for Slurm's `srun`.

As root, what `srun` runs has a network of its own, so that nothing but `srun` leads there.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.faults import namespace
from tests.hosts import processes

# Like Slurm it passes on whole lines, and pieces of lines only from 1024 bytes on.
_SRUN = r"""#!{python} -IS
import os, signal, subprocess, sys, threading
sys.stderr.write("module: loading gcc/12\n")
print("srun: this cluster is down on Sunday", flush=True)
options, command = [], sys.argv[1:]
while command and command[0].startswith("--"):
    options.append(command.pop(0))
    if options[-1] == "--jobid":
        options.append(command.pop(0))
with open({calls!r}, "a") as calls:
    print(*options, file=calls)
if "--jobid" not in options or options[options.index("--jobid") + 1] not in open({jobs!r}).read().split():
    sys.exit("srun: error: Invalid job id specified")
command = {prefix!r} + command
task = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: os.killpg(task.pid, signal.SIGTERM))
signal.signal(signal.SIGINT, lambda *_: None)
def feed():
    try:
        while True:
            data = os.read(0, 65536)
            if not data:
                break
            task.stdin.write(data)
            task.stdin.flush()
        task.stdin.close()
    except OSError:
        pass
threading.Thread(target=feed, daemon=True).start()
kept = b""
while True:
    data = os.read(task.stdout.fileno(), 65536)
    if not data:
        break
    kept += data
    whole = len(kept) if len(kept) >= 1024 else kept.rfind(b"\n") + 1
    rest = memoryview(kept)[:whole]
    while rest:
        rest = rest[os.write(1, rest):]
    kept = kept[whole:]
status = task.wait()
if status:
    print("srun: error: node1: task 0: Exited with exit code", status, file=sys.stderr)
os._exit(status if status >= 0 else 128 - status)
"""


class Cluster:
    """`srun` is the program; `jobs` are those it knows. `separate`: the node has a network of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.srun = directory / "srun"
        self._jobs = directory / "jobs"
        self._calls = directory / "calls"
        self._calls.touch()
        self.separate = namespace.why_not() is None
        self._name = f"node-{secrets.token_hex(4)}"

    def __enter__(self) -> Cluster:
        prefix: list[str] = []
        if self.separate:
            prefix = ["ip", "netns", "exec", self._name]
            subprocess.run(["ip", "netns", "add", self._name], check=True, timeout=10)
            subprocess.run([*prefix, "ip", "link", "set", "lo", "up"], check=True, timeout=10)
        values = {"jobs": str(self._jobs), "calls": str(self._calls), "prefix": prefix}
        text = _SRUN.replace("{python}", os.path.realpath(sys.executable))
        for name, value in values.items():
            text = text.replace("{" + name + "!r}", repr(value))
        self.srun.write_text(text)
        self.srun.chmod(0o755)
        self.set_jobs("123")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.separate:
            subprocess.run(["ip", "netns", "delete", self._name], check=False, timeout=10)

    @property
    def template(self) -> str:
        return f"{self.srun} --jobid {{job}} --overlap {{command}}"

    def set_jobs(self, *jobs: str) -> None:
        self._jobs.write_text(" ".join(jobs))

    def calls(self) -> list[str]:
        """The options of every `srun` so far."""
        return self._calls.read_text().splitlines()

    def srun_processes(self) -> set[int]:
        """All that run now. Linux only."""
        wanted = os.fsencode(self.srun)
        found = set()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words[:3] and processes.is_alive(int(entry.parent.name)):
                found.add(int(entry.parent.name))
        return found
