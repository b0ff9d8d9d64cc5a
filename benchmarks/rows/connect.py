"""A cold connect of a host whose key is known, against `ssh host true`."""

from __future__ import annotations

import subprocess

from benchmarks.figures import Bar, Row, column, interleave, timed
from benchmarks.stage import ROUND_TRIP_MS, TIMEOUT, Failed, Stage, credentials
from tests.hosts.sshd import SshServer

OURS, SSH = "ours", "ssh"


def measure(stage: Stage) -> list[Row]:
    host = stage.host()
    far = stage.long_wire(host)
    return [
        _row(stage, host, host.port, "cold connect", stage.rounds(15, 6), Bar(0.6)),
        _row(
            stage,
            host,
            far,
            f"cold connect, RTT {ROUND_TRIP_MS} ms",
            stage.rounds(7, 3),
            Bar(0.85),
            "through the relay",
        ),
    ]


def _row(stage: Stage, host: SshServer, port: int, name: str, rounds: int, bar: Bar, note: str = "") -> Row:
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

    table = interleave({OURS: ours, SSH: ssh}, rounds)
    return Row(name, "s", column(table, "seconds"), OURS, SSH, bar, note)
