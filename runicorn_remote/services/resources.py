"""How busy a host is: load, memory, disk, GPUs, in one round trip. Everything it says is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runicorn_remote import onhost
from runicorn_remote.errors import InvalidValue, RemoteCommandFailed
from runicorn_remote.services.environments import ScriptHost

# For `nvidia-smi`, which hangs with its driver, and for a file server that is gone.
_TOOL_TIMEOUT = 3.0
# People look at many hosts at a time; one that takes longer than this is not worth the wait.
_TIMEOUT = 10.0
_MAX_GPUS = 64
_HUGE = 1 << 63


@dataclass(frozen=True)
class Gpu:
    """Sizes in bytes; None is what the driver does not tell (of a GPU that is divided up, say)."""

    index: int
    name: str
    memory_total: int | None
    memory_used: int | None
    utilization: int | None


@dataclass(frozen=True)
class Space:
    """Bytes of memory, or of the file system of `path`; `available` to this account."""

    total: int
    available: int
    path: str | None = None


@dataclass(frozen=True)
class Resources:
    """None is what the host does not tell. `load`: processes, over 1, 5 and 15 minutes; `uptime` in seconds.

    No GPU is an empty tuple; if it is None, `gpu_error` says why.
    """

    hostname: str | None
    platform: str | None
    cpus: int | None
    load: tuple[float, ...] | None
    uptime: float | None
    memory: Space | None
    disk: Space | None
    disk_error: str | None
    gpus: tuple[Gpu, ...] | None
    gpu_error: str | None


def ask_resources(host: ScriptHost, storage_root: str | None, command_timeout: float) -> Resources:
    """Ask a host. `storage_root`: whose disk; that of new runs if None. May be called from any thread.

    Raises `InvalidValue` (the path), `SSHError`, `RemoteCommandFailed`.
    """
    program = onhost.build("machine_resources", {"storage_root": storage_root, "timeout": _TOOL_TIMEOUT})
    result = host.run_script(program.script, timeout=min(_TIMEOUT, command_timeout))
    try:
        answer = program.answer(result.stdout, result.stderr, result.exit_status)
    except RemoteCommandFailed as error:
        if error.code == "INVALID_PATH":
            raise InvalidValue("The storage root cannot be used", code="INVALID_PATH") from error
        raise
    return read_resources(answer)


def read_resources(answer: Mapping[str, Any]) -> Resources:
    """What a host answered, without what cannot be true."""
    gpus, load = answer.get("gpus"), answer.get("load")
    numbers = load if isinstance(load, list) and len(load) == 3 else []
    loads = tuple(number for value in numbers if (number := _number(value)) is not None)
    return Resources(
        hostname=_text(answer.get("hostname")),
        platform=_text(answer.get("platform")),
        cpus=_count(answer.get("cpus")),
        load=loads if len(loads) == 3 else None,
        uptime=_number(answer.get("uptime")),
        memory=_space(answer.get("memory"), "available"),
        disk=_space(answer.get("disk"), "free"),
        disk_error=_text(answer.get("disk_error")),
        gpus=tuple(_gpus(gpus)) if isinstance(gpus, list) else None,
        gpu_error=_text(answer.get("gpu_error")),
    )


def _gpus(items: list[Any]) -> list[Gpu]:
    found = []
    for item in items[:_MAX_GPUS]:
        index = _count(item.get("index")) if isinstance(item, dict) else None
        if index is not None:
            found.append(
                Gpu(
                    index=index,
                    name=_text(item.get("name")) or "?",
                    memory_total=_count(item.get("memory_total")),
                    memory_used=_count(item.get("memory_used")),
                    utilization=_count(item.get("utilization")),
                )
            )
    return found


def _space(value: object, available: str) -> Space | None:
    if not isinstance(value, dict):
        return None
    total, left = _count(value.get("total")), _count(value.get(available))
    if total is None or left is None:
        return None
    path = value.get("path")
    return Space(total, left, path if isinstance(path, str) and path.isprintable() else None)


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _HUGE else None


def _number(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < _HUGE else None  # type: ignore[operator, arg-type]


def _text(value: object) -> str | None:
    return onhost.shown(value, 300) if isinstance(value, str) else None
