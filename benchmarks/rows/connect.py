"""A cold connect of a host whose key is known, against `ssh host true`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial

from benchmarks.api import Failed, credentials
from benchmarks.figures import Bar, Row, timed
from benchmarks.part import Part
from benchmarks.stage import ROUND_TRIP_MS, TIMEOUT, Stage
from tests.hosts.sshd import SshServer

OURS, SSH = "ours", "ssh"


def measure(stage: Stage) -> Iterator[Part]:
    host = stage.host()
    far = stage.long_wire(host)
    name = "cold connect"
    yield name, partial(_row, stage, host, host.port, name, (15, 6), Bar(0.6))
    name += f", RTT {ROUND_TRIP_MS} ms"
    yield name, partial(_row, stage, host, far, name, (7, 3), Bar(0.85), "through the relay")


def _row(
    stage: Stage,
    host: SshServer,
    port: int,
    name: str,
    rounds: tuple[int, int],
    bar: Bar,
    note: str = "",
) -> list[Row]:
    api = stage.our_server((host, port))
    account = credentials(host, port)
    command = [*stage.ssh(host, "-oControlPath=none", port=port), "host", "true"]

    def ours() -> dict[str, float]:
        before = host.log().count("Accepted publickey")
        result = timed(lambda: api.post("connect", **account))
        if host.log().count("Accepted publickey") == before:
            raise Failed("the connect was not a cold one")
        api.post("disconnect", **{key: account[key] for key in ("host", "port", "username")})
        return dict(result)

    def ssh() -> dict[str, float]:
        return dict(timed(lambda: subprocess.run(command, check=True, timeout=TIMEOUT)))

    table = stage.interleave({OURS: ours, SSH: ssh}, *rounds, seconds=20, warm_up=True)
    return [table.row("seconds", name, "s", OURS, SSH, bar, note)]
