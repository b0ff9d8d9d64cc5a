"""Looks for what a demo should have taken along: processes, ports, threads."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

_TIMEOUT = 10.0
_PAUSE = 0.05


def processes(pids: Collection[int], marker: str) -> list[str]:
    """Which of these pids still run, and on Linux who has `marker` (`NAME=value`) in its environment."""
    return _settled(lambda: [_described(pid) for pid in sorted({*filter(_runs, pids), *_marked(marker)})])


def ports(numbers: Iterable[int]) -> list[str]:
    """Which ports still take connections on a loopback address."""
    addresses = [(host, number) for number in sorted(set(numbers)) for host in ("127.0.0.1", "::1")]
    return _settled(lambda: [f"port {port} on {host}" for host, port in addresses if _listens(host, port)])


def threads(before: Collection[threading.Thread]) -> list[str]:
    """Which threads of this process are new since `before`."""
    deadline = time.monotonic() + _TIMEOUT
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"thread {thread.name}" for thread in left if thread.is_alive()]


def kill_marked(marker: str) -> None:
    """End by force what `processes` finds by its marker."""
    for pid in _marked(marker):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


def _settled(look: Callable[[], list[str]]) -> list[str]:
    """What is still found after a time for things to end; empty as soon as nothing is found."""
    deadline = time.monotonic() + _TIMEOUT
    pause = threading.Event()
    while (found := look()) and time.monotonic() < deadline:
        pause.wait(_PAUSE)
    return found


def _runs(pid: int) -> bool:
    """Whether the process is there, and not just waiting for its parent to ask how it ended."""
    if sys.platform == "linux":
        try:
            # After the name in parentheses, which may hold anything.
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        except OSError:
            return False
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    return bool(answer.stdout.strip()) and not answer.stdout.strip().startswith("Z")


def _marked(marker: str) -> set[int]:
    pids = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        # The process may end while we look, or belong to another user.
        with contextlib.suppress(OSError):
            if marker.encode() in entry.read_bytes().split(b"\0"):
                pids.add(int(entry.parent.name))
    return pids


def _described(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    return f"process {pid} {words[:100]}".strip()


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except TimeoutError:
        return True  # somebody holds the port and does not answer
    except OSError:
        return False
