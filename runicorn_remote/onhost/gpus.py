"""NVIDIA's GPUs, asked of `nvidia-smi`. Runs on the remote machine: Python >= 3.6, standard library."""

import os
import re
import shutil
from typing import Any

from runicorn_remote.onhost.tools import ToolFailed, run_tool

_QUERY = (
    "--query-gpu=index,name,memory.total,memory.used,utilization.gpu",
    "--format=csv,noheader,nounits",
)
# Where it lies for logins whose PATH does not say so: WSL, containers.
_PLACES = ("/usr/bin", "/usr/lib/wsl/lib", "/usr/local/nvidia/bin", "/opt/bin")
_MIB = 1024 * 1024


def gpus(timeout: float) -> "tuple[list[dict[str, Any]] | None, str | None]":
    """-> the GPUs and None, or None and why they are not known. `nvidia-smi` gets `timeout` seconds."""
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=os.pathsep.join(_PLACES))
    if not tool:
        return [], None
    try:
        status, said, errors = run_tool([tool, *_QUERY], timeout)
    except ToolFailed as failure:
        return None, str(failure)
    # It explains itself on stdout, "NVIDIA-SMI has failed because ...".
    if status:
        reason = " ".join((said + " " + errors).split())
        return None, (reason or f"nvidia-smi failed, status {status}")[:300]
    return [gpu for gpu in map(_gpu, said.splitlines()) if gpu], None


def _gpu(line: str) -> "dict[str, Any] | None":
    """`0, NVIDIA A100-SXM4-40GB, 40960, 1234, 56`: MiB, per cent; what is not known is `[N/A]`."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 5 or not fields[0].isdigit():
        return None
    total, used, utilization = (_number(field) for field in fields[-3:])
    return {
        "index": int(fields[0]),
        "name": ", ".join(fields[1:-3])[:100],
        "memory_total": None if total is None else total * _MIB,
        "memory_used": None if used is None else used * _MIB,
        "utilization": utilization,
    }


def _number(text: str) -> "int | None":
    return int(text) if re.match(r"\d{1,9}\Z", text) else None
