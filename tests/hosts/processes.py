"""What the system tells about processes. What is not said otherwise is for Linux (`/proc`) only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not. On every system."""
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    )
    state = answer.stdout.strip()
    return bool(state) and state[0] != "Z"


def with_environment(*assignments: str) -> set[int]:
    """The processes that have all these `NAME=value`, or `NAME=` for any value, in their environment."""
    wanted = [assignment.encode() for assignment in assignments]
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            variables = entry.read_bytes().split(b"\0")
            if all(any(_matches(variable, want) for variable in variables) for want in wanted):
                found.add(int(entry.parent.name))
    return found


def command_line_and_environment(pid: int) -> bytes:
    """What every user (the first) and every process of this user (the second) of the machine can read."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))


def descriptors(pid: int) -> dict[int, str]:
    """Descriptor -> what it is open on, such as `socket:[4711]`."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def thread_count(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Threads:"):
            return int(line.split()[1])
    raise LookupError("/proc/PID/status has no line 'Threads:'")


def _matches(variable: bytes, wanted: bytes) -> bool:
    return variable.startswith(wanted) if wanted.endswith(b"=") else variable == wanted
