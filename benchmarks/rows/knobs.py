"""What each knob of the tunnel does: the same tunnel without it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.figures import Row, column, interleave
from benchmarks.one_tunnel import (
    as_it_is,
    no_settling_command,
    no_tcp_nodelay,
    one_window_for_all_wires,
    packets_of_16_kib,
    paramikos_cipher_order,
    paramikos_packetizer,
    paramikos_renewal_of_keys,
    window_of_16_mib,
)
from benchmarks.stage import Forward, Stage, free_port
from tests.hosts.sshd import SshServer

OURS, WITHOUT = "ours", "without"
MB = 1_000_000


def measure(stage: Stage) -> list[Row]:
    host = stage.host()
    port = free_port()
    stage.process([sys.executable, "-m", "benchmarks.far_end", "--port", str(port)])
    wire = stage.long_wire(host)
    return [
        _row(stage, host, port, no_settling_command.__name__, "latency", "p99", "ms", 300),
        _row(stage, host, port, paramikos_cipher_order.__name__, "bulk", "rate", "MB/s", 1, 200 * MB),
        _row(stage, host, port, paramikos_cipher_order.__name__, "bulk", "cpu", "s", 1, 200 * MB),
        _row(stage, host, port, paramikos_packetizer.__name__, "bulk", "cpu", "s", 1, 200 * MB),
        _row(stage, host, port, paramikos_packetizer.__name__, "bulk", "rate", "MB/s", 8, 200 * MB),
        _row(stage, host, port, packets_of_16_kib.__name__, "bulk", "rate", "MB/s", 8, 200 * MB),
        _row(stage, host, port, window_of_16_mib.__name__, "bulk", "rate", "MB/s", 1, 200 * MB),
        _row(stage, host, port, paramikos_renewal_of_keys.__name__, "bulk", "rate", "MB/s", 1, 600 * MB),
        _row(stage, host, port, no_tcp_nodelay.__name__, "rate", "rate", "1/s", 16, 1),
        _row(
            stage,
            host,
            port,
            one_window_for_all_wires.__name__,
            "bulk",
            "rate",
            "MB/s",
            1,
            40 * MB,
            wire=wire,
        ),
    ]


def _row(
    stage: Stage,
    host: SshServer,
    port: int,
    knob: str,
    kind: str,
    measure: str,
    unit: str,
    *arguments: int,
    wire: int | None = None,
) -> Row:
    ways = {
        OURS: _tunnel(stage, host, port, as_it_is.__name__, wire),
        WITHOUT: _tunnel(stage, host, port, knob, wire),
    }
    runs = {who: partial(way.load, kind, *arguments) for who, way in ways.items()}
    table = interleave(runs, stage.rounds(4, 1), warm_up=False)
    far = ", RTT 100 ms" if wire else ""
    name = f"knob: {knob.replace('_', ' ')}; {kind} {measure}{far}"
    return Row(name, unit, column(table, measure), OURS, WITHOUT, note="through the relay" if wire else "")


def _tunnel(stage: Stage, host: SshServer, far: int, knob: str, wire: int | None) -> Forward:
    port = wire or host.port
    known = host.directory / f"known_hosts_of_{port}"
    known.write_text("".join(f"[{host.host}]:{port} {key}\n" for key in host.host_keys.values()))
    arguments = [knob, str(known), host.host, str(port), host.username, str(host.client_key), str(far)]
    process = stage.process(
        [sys.executable, "-m", "benchmarks.one_tunnel", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return Forward(int(process.stdout.readline()), process.pid)
