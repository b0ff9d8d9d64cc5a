"""What idle tunnels and idle connections cost: threads and memory, and how that grows."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.figures import Bar, Row
from benchmarks.stage import TIMEOUT, Failed, Stage, memory_mb, thread_count
from tests.hosts.server import REPOSITORY

OURS, SSH = "ours", "an ssh -L each"
NUMBERS = (1, 10, 50, 200)
CONNECTIONS = (10, 100, 1000)


def measure(stage: Stage) -> list[Row]:
    host = stage.host()
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
    answer = json.loads(done.stdout)
    last = answer["tunnels"][-1]
    forwards = [stage.forward(host, host.port) for _ in range(4)]
    pids = [forward.pid for forward in forwards if forward.pid is not None]
    rows = [
        Row(
            f"{last['number']} idle tunnels, threads a tunnel",
            "",
            {OURS: [last["threads"]], SSH: [float(thread_count(pid)) for pid in pids[:1]]},
            OURS,
            bar=Bar(1, absolute=True),
            note="`ssh` is what Runicorn 0.7.2 starts for a tunnel, beside threads of its own",
        ),
        Row(
            f"{last['number']} idle tunnels, memory a tunnel",
            "MB",
            {OURS: [last["memory"]], SSH: [memory_mb(pid) for pid in pids]},
            OURS,
            SSH,
            bar=Bar(0.1, absolute=True),
            note="proportional set size",
        ),
    ]
    curve = ", ".join(f"{each['number']}: {each['memory'] * 1000:.0f}" for each in answer["tunnels"])
    rows[1].note += f"; kB a tunnel at {curve}"
    for each in answer["connections"]:
        rows.append(
            Row(
                f"{each['number']} open TCP connections in one tunnel, memory each",
                "kB",
                {OURS: [each["memory"] * 1000]},
                OURS,
                note=f"{each['threads']:.0f} more threads than without; "
                f"{each['seconds'] * 1000:.2f} ms each to open",
            )
        )
    return rows
