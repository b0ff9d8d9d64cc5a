"""How busy the connected hosts are, for `ls`: all asked at a time, and nobody waits for one that hangs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from runicorn_remote.cli.output import shown_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from runicorn_remote.client import RunicornRemoteClient
    from runicorn_remote.client.shapes import Gpu, Resources, Status

    # Of clients whose requests may take that many seconds.
    NewClient = Callable[[float], RunicornRemoteClient]

# Seconds. A host in good health answers in a fraction of one; `nvidia-smi` alone may take two.
DEADLINE = 5.0
# Between two questions of `--watch`.
_PAUSE = 5.0
# Below the requests a server takes that wait for a host (`slow_requests`).
_AT_A_TIME = 8
COLUMNS = ("LOAD", "MEMORY FREE", "GPU", "DISK FREE")
_UNKNOWN = ("-",) * len(COLUMNS)


def ask_all(status: Status, new_client: NewClient) -> dict[str, Any]:
    """`{connection_id: Resources, or {"detail", "code"} of one that cannot be asked}`, within `DEADLINE`."""
    roots = _roots(status)
    wanted = [item["key"] for item in status["connections"] if item["connected"]]
    end = time.monotonic() + DEADLINE
    executor = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="resources")
    try:
        asked = {key: executor.submit(_ask, new_client, key, roots.get(key), end) for key in wanted}
        return {key: future.result() for key, future in asked.items()}
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def cells(found: dict[str, Any] | None) -> tuple[str, ...]:
    """The columns for one host; what is not known is a dash."""
    if found is None:
        return _UNKNOWN
    if "ok" not in found:
        return (str(found["code"]).lower().replace("_", " "), *_UNKNOWN[1:])
    memory, disk = found["memory"], found["disk"]
    return (
        _load(found["loadAverage"], found["cpus"]),
        _of(memory["availableBytes"], memory["totalBytes"]) if memory else "-",
        _gpus(found["gpus"]),
        _of(disk["freeBytes"], disk["totalBytes"]) if disk else "-",
    )


class ResourceWatch:
    """Asks again and again in a thread of its own, for `ls --watch`; ends with its block.

    `status` says whom to ask, `found` what they answered; both are replaced as a whole.
    """

    def __init__(self, status: Status, new_client: NewClient) -> None:
        self.status = status
        self.found: dict[str, Any] = {}
        self._new_client = new_client
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resources", daemon=True)

    def __enter__(self) -> ResourceWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        while not self._over.is_set():
            self.found = ask_all(self.status, self._new_client)
            self._over.wait(_PAUSE)


def _ask(new_client: NewClient, key: str, root: str | None, end: float) -> Resources | dict[str, Any]:
    """One host. Never raises what a request can."""
    import requests

    left = end - time.monotonic()
    if left <= 0:
        return {"detail": "The hosts before it took too long", "code": "NOT_ASKED"}
    try:
        with new_client(left) as client:
            return client.resources(connection_id=key, storage_root=root)
    except requests.Timeout:
        return {"detail": "It did not answer in time", "code": "NO_ANSWER"}
    except requests.RequestException as error:
        return {"detail": str(error), "code": getattr(error, "code", "") or "NO_ANSWER"}


def _roots(status: Status) -> dict[str, str]:
    """The storage root of a viewer on each host: its disk is the one that matters."""
    found: dict[str, str] = {}
    keys = {(item["username"], item["host"], item["port"]): item["key"] for item in status["connections"]}
    for session in status["viewer_sessions"]:
        key = keys.get((session["username"], session["host"], session["sshPort"]))
        if key is not None:
            found.setdefault(key, session["remoteRoot"])
    return found


def _load(load: list[float] | None, cpus: int | None) -> str:
    if load is None:
        return "-"
    return f"{load[0]:.1f} of {cpus}" if cpus else f"{load[0]:.1f}"


def _of(left: int, total: int) -> str:
    return f"{shown_size(left)} of {shown_size(total)}"


def _gpus(gpus: list[Gpu] | None) -> str:
    """`0: 35% 12G/80G, 1: ...`: what is in use; `no answer` if the driver gives none."""
    if gpus is None:
        return "no answer"
    return ", ".join(_gpu(gpu) for gpu in gpus) or "-"


def _gpu(gpu: Gpu) -> str:
    utilization, used, total = gpu["utilizationPercent"], gpu["memoryUsedBytes"], gpu["memoryTotalBytes"]
    parts = [f"{gpu['index']}:", "?" if utilization is None else f"{utilization}%"]
    if used is not None and total is not None:
        parts.append(f"{shown_size(used)}/{shown_size(total)}")
    return " ".join(parts)
