"""Question: how busy is this machine? All in one round trip. Linux and macOS; Python >= 3.6.

Arguments `{"storage_root": path or None, "timeout": seconds for the GPUs, and for the disk}`.
The answer, with None for what the machine does not tell:
`{"hostname", "platform", "cpus", "load": [1, 5, 15 minutes], "uptime": seconds,
"memory": {"total", "available"}, "disk": {"path", "total", "free"}, "disk_error",
"gpus": [{"index", "name", "memory_total", "memory_used", "utilization": per cent}], "gpu_error"}`, sizes in
bytes. Without NVIDIA's tool `gpus` is empty; it is None, with the reason beside it, if the tool fails.
"""

import os
import re
import socket
import sys
import threading
import time
from typing import Any

from runicorn_remote.onhost.gpus import gpus
from runicorn_remote.onhost.paths import home_directory, native_path, text_of, wire_path
from runicorn_remote.onhost.storage_roots import storage_roots
from runicorn_remote.onhost.tools import output_of

# Seconds. Local files and local commands, which have no reason to take any time.
_COMMAND_TIMEOUT = 2.0


def main(arguments: "dict[str, Any]") -> "dict[str, Any]":
    home = home_directory()
    timeout = float(arguments["timeout"])
    asked = arguments.get("storage_root")
    disk = _Disk(native_path(asked, home) if asked else storage_roots(home)[2], timeout)
    found, problem = gpus(timeout)
    memory, uptime = _of_mac() if sys.platform == "darwin" else _of_linux()
    return dict(
        disk.answer(),
        hostname=wire_path(socket.gethostname()),
        platform=sys.platform,
        cpus=os.cpu_count(),
        load=_load(),
        uptime=uptime,
        memory=memory,
        gpus=found,
        gpu_error=problem,
    )


def _load() -> "list[float] | None":
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


class _Disk:
    """The file system of a path, asked in a thread: the question never ends on a file server that is gone."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._deadline = time.monotonic() + timeout
        self._answer: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._ask, name="disk", daemon=True)
        self._thread.start()

    def answer(self) -> "dict[str, Any]":
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._answer:
            return self._answer
        return {"disk": None, "disk_error": "the file system did not answer"}

    def _ask(self) -> None:
        # What is not there yet will lie where its nearest directory lies.
        path = self._path
        while not os.path.exists(path) and path != os.path.dirname(path):
            path = os.path.dirname(path)
        try:
            seen = os.statvfs(path)
        except OSError as error:
            self._answer = {"disk": None, "disk_error": error.strerror}
            return
        # Not f_bfree: some of that is kept for root.
        total, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
        disk = {"path": wire_path(self._path), "total": total, "free": free}
        self._answer = {"disk": disk, "disk_error": None}


def _of_linux() -> "tuple[dict[str, int] | None, float | None]":
    """-> memory, uptime; see proc(5)."""
    uptime = re.match(r"\d+(?:\.\d+)?", text_of("/proc/uptime"))
    return linux_memory(text_of("/proc/meminfo")), float(uptime.group()) if uptime else None


def linux_memory(meminfo: str) -> "dict[str, int] | None":
    kilobytes = {
        name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)
    }
    if not {"MemTotal", "MemAvailable"} <= set(kilobytes):
        return None
    return {"total": kilobytes["MemTotal"] * 1024, "available": kilobytes["MemAvailable"] * 1024}


def _of_mac() -> "tuple[dict[str, int] | None, float | None]":
    """-> memory, uptime; see sysctl(3) and vm_stat(1)."""
    settings = output_of(["sysctl", "hw.memsize", "kern.boottime"], _COMMAND_TIMEOUT)
    booted = re.search(r"kern\.boottime: \{ sec = (\d+)", settings)
    uptime = time.time() - int(booted.group(1)) if booted else None
    return mac_memory(settings, output_of(["vm_stat"], _COMMAND_TIMEOUT)), uptime


def mac_memory(settings: str, statistics: str) -> "dict[str, int] | None":
    total = re.search(r"hw\.memsize: (\d+)", settings)
    page = re.search(r"page size of (\d+) bytes", statistics)
    if not total or not page:
        return None
    # What the Activity Monitor does not count as used.
    names = "free", "inactive", "speculative", "purgeable"
    counts = [re.search("Pages " + name + r":\s+(\d+)", statistics) for name in names]
    pages = sum(int(count.group(1)) for count in counts if count)
    return {"total": int(total.group(1)), "available": min(int(total.group(1)), pages * int(page.group(1)))}
