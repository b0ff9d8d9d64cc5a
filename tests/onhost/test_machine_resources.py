"""The question `machine_resources`, asked of this machine, with an `nvidia-smi` that is a script."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost.machine_resources import linux_memory, mac_memory
from tests.fakes import LocalHost
from tests.hosts import processes

A100 = "0, NVIDIA A100-SXM4-40GB, 40960, 1234, 56"
MIB = 1024 * 1024


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def ask(
    home: Path, storage_root: str | None = None, timeout: float = 5.0, path: str = "", **environ: str
) -> dict[str, Any]:
    host = LocalHost(home, path=f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin", **environ)
    program = onhost.build("machine_resources", {"storage_root": storage_root, "timeout": timeout})
    result = host.run_script(program.script, timeout=30)
    return program.answer(result.stdout, result.stderr, result.exit_status)


def nvidia_smi(tmp_path: Path, script: str) -> str:
    """-> the PATH entry of one that does this."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    return str(tool.parent)


def test_this_machine(home: Path) -> None:
    answer = ask(home)
    assert (answer["hostname"], answer["platform"]) == (socket.gethostname(), sys.platform)
    assert answer["cpus"] == os.cpu_count()
    assert len(answer["load"]) == 3
    assert answer["uptime"] > 0
    memory = answer["memory"]
    assert memory["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory["available"] < memory["total"]


def test_the_disk_of_the_storage_root(home: Path) -> None:
    seen = shutil.disk_usage(home)
    disk = ask(home)["disk"]
    # It is not there yet; new runs would lie where its directory lies.
    assert (disk["path"], disk["total"]) == (f"{home}/runicorn_data", seen.total)
    assert 0 < disk["free"] <= seen.total
    assert ask(home, RUNICORN_DIR="/proc")["disk"] == {"path": "/proc", "total": 0, "free": 0}
    assert ask(home, "~/a/b")["disk"]["path"] == f"{home}/a/b"


def test_a_root_that_no_path_can_be(home: Path) -> None:
    with pytest.raises(RemoteCommandFailed) as caught:
        ask(home, "a\0b")
    assert caught.value.code == "INVALID_PATH"


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has one")
def test_without_the_tool_there_is_no_gpu(home: Path) -> None:
    answer = ask(home)
    assert (answer["gpus"], answer["gpu_error"]) == ([], None)


def test_gpus(home: Path, tmp_path: Path) -> None:
    lines = [A100, "1, Odd, Inc. GPU, [N/A], 0, [Not Supported]", "what?", "", "x, y, 1, 2, 3"]
    said = "\n".join(lines)
    script = '[ "$*" = "--query-gpu=index,name,memory.total,memory.used,utilization.gpu ' + (
        f"--format=csv,noheader,nounits\" ] || exit 9\ncat <<'END'\n{said}\nEND"
    )
    answer = ask(home, path=nvidia_smi(tmp_path, script))
    assert answer["gpu_error"] is None
    assert answer["gpus"] == [
        {
            "index": 0,
            "name": "NVIDIA A100-SXM4-40GB",
            "memory_total": 40960 * MIB,
            "memory_used": 1234 * MIB,
            "utilization": 56,
        },
        {
            "index": 1,
            "name": "Odd, Inc. GPU",
            "memory_total": None,
            "memory_used": 0,
            "utilization": None,
        },
    ]


def test_a_driver_that_fails_says_why(home: Path, tmp_path: Path) -> None:
    script = "echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9"
    answer = ask(home, path=nvidia_smi(tmp_path, script))
    assert answer["gpus"] is None
    assert answer["gpu_error"].startswith("NVIDIA-SMI has failed because")


def test_a_driver_that_hangs_costs_its_time_and_no_process(home: Path, tmp_path: Path) -> None:
    token = f"RESOURCES_TEST={tmp_path}"
    began = time.monotonic()
    # A child of its own holds the output open as well.
    answer = ask(
        home, timeout=0.3, path=nvidia_smi(tmp_path, "sleep 600 & sleep 600"), RESOURCES_TEST=str(tmp_path)
    )
    assert time.monotonic() - began < 20
    assert (answer["gpus"], answer["gpu_error"]) == (None, "nvidia-smi did not answer within 0.3 s")
    assert answer["memory"], "the rest is told all the same"
    if sys.platform == "linux":
        assert not processes.with_environment(token)


def test_linux_memory() -> None:
    assert linux_memory("MemTotal:  16 kB\nMemFree:  1 kB\nMemAvailable:   8 kB\n") == {
        "total": 16384,
        "available": 8192,
    }
    assert linux_memory("MemTotal:  16 kB\n") is None


def test_mac_memory() -> None:
    settings = "hw.memsize: 17179869184\nkern.boottime: { sec = 1700000000, usec = 0 } Tue Nov 14 2023\n"
    statistics = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               10000.\n"
        "Pages active:                            300000.\n"
        "Pages inactive:                           20000.\n"
        "Pages speculative:                         3000.\n"
        "Pages purgeable:                            400.\n"
    )
    assert mac_memory(settings, statistics) == {"total": 17179869184, "available": 33400 * 16384}
    assert mac_memory("", statistics) is None
    assert mac_memory(settings, "") is None
