"""What idle tunnels and idle connections cost: threads and memory, and how that grows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.api import Failed
from benchmarks.figures import Bar, Curve, Result, Row, reason
from benchmarks.machine import memory_mb, thread_count
from benchmarks.part import Part
from benchmarks.stage import TIMEOUT, Forward, Stage
from tests.hosts.server import REPOSITORY
from tests.hosts.sshd import SshServer

OURS, SSH = "ours", "an ssh -L each"
NUMBERS = (1, 10, 50, 200)
CONNECTIONS = (1, 10, 100, 300, 1000)


def measure(stage: Stage) -> Iterator[Part]:
    yield "idle tunnels", partial(_idle, stage)


def _idle(stage: Stage) -> Iterator[Result]:
    host = stage.host()
    answer = _ours(host)
    tunnels, connections = answer["tunnels"], answer["connections"]
    number, threads, memory = (tunnels[-1][key] for key in ("number", "threads", "memory"))
    values = {"threads": {OURS: [threads / number]}, "memory": {OURS: [memory / number]}}
    failed = {}
    try:
        pids = [_pid(stage.forward(host, host.port)) for _ in range(4)]
        values["threads"][SSH] = [float(thread_count(pid)) for pid in pids[:1]]
        values["memory"][SSH] = [memory_mb(pid) for pid in pids]
    except (Failed, OSError) as error:
        failed[SSH] = reason(error)
    name = f"{number} idle tunnels"
    note = "`ssh` is what Runicorn 0.7.2 starts for a tunnel, beside threads of its own"
    each = Bar(1, absolute=True)
    yield Row(f"{name}, threads a tunnel", "", values["threads"], OURS, bar=each, note=note, failed=failed)
    note = "proportional set size"
    each = Bar(0.1, absolute=True)
    yield Row(f"{name}, memory a tunnel", "MB", values["memory"], OURS, SSH, each, note, failed=failed)
    yield _curve("tunnels: time to start one of the last nine", "ms", tunnels, "seconds", 1000)
    yield _curve("tunnels: memory in all", "MB", tunnels, "memory")
    yield _curve("tunnels: threads in all", "", tunnels, "threads")
    yield _curve("TCP connections in one tunnel: time to open one", "ms", connections, "seconds", 1000)
    memories = _curve("TCP connections in one tunnel: memory in all", "MB", connections, "memory")
    memories.fitted_from = 100
    memories.note = "the first ones take what Python has free already"
    yield memories
    yield _curve("TCP connections in one tunnel: threads in all", "", connections, "threads")


def _ours(host: SshServer) -> Any:
    listing = host.directory / "known_hosts_idle"
    listing.write_text("".join(f"{line}\n" for line in host.known_hosts_lines()))
    command = [sys.executable, "-m", "benchmarks.idle_tunnels", str(listing), host.host, str(host.port)]
    done = subprocess.run(
        [*command, host.username, str(host.client_key)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr[-500:])
    return json.loads(done.stdout)


def _pid(forward: Forward) -> int:
    if forward.pid is None:
        raise Failed("an ssh -L did not start")
    return forward.pid


def _curve(name: str, unit: str, points: list[dict[str, float]], key: str, factor: float = 1) -> Curve:
    return Curve(name, unit, {int(point["number"]): [point[key] * factor] for point in points})
