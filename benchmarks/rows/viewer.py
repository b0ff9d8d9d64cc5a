"""Starting the real viewer until its first 200 through the tunnel, against the same by hand.

By hand: `ssh host python -m runicorn viewer …` and `ssh -L`, both over a warm connection, and a
request every 10 ms. Our server makes that request itself and answers when it has its 200, so its
answer is the end; one more request by the client is only to prove it, and is not timed. All
contestants start the same Runicorn 0.7.2.
"""

from __future__ import annotations

import subprocess
import time

from benchmarks.figures import Bar, Row, column, interleave
from benchmarks.stage import (
    PEER,
    REAL,
    ROUND_TRIP_MS,
    TIMEOUT,
    Api,
    Failed,
    Stage,
    accepts,
    answers,
    credentials,
    free_port,
    poll_until,
    running,
)
from tests.hosts.sshd import SshServer

OURS, BY_HAND, RUNICORN = "ours", "by hand", "Runicorn 0.7.2"


def measure(stage: Stage) -> list[Row]:
    name = "viewer start until its first 200"
    if not PEER.exists():
        return [Row(name, "s", skipped="there is no .cache/runicorn-0.7.2 (make runicorn-0.7.2)")]
    host = stage.host()
    far = stage.long_wire(host)
    bar = Bar(1.1)
    return [
        _row(stage, host, host.port, name, stage.rounds(5, 2), bar),
        _row(
            stage,
            host,
            far,
            f"{name}, RTT {ROUND_TRIP_MS} ms",
            stage.rounds(4, 1),
            bar,
            "through the relay",
        ),
    ]


def _row(stage: Stage, host: SshServer, port: int, name: str, rounds: int, bar: Bar, note: str = "") -> Row:
    api = stage.our_server((host, port))
    account = credentials(host, port)
    api.post("connect", **account)
    warm = stage.master(host, port=port)

    def ours() -> dict[str, float]:
        return _started(api, account, {"conda_env": REAL})

    def by_hand() -> dict[str, float]:
        remote, local = free_port(), free_port()
        flags = f"--storage storage --host 127.0.0.1 --port {remote} --remote-mode --log-level INFO"
        viewer = [*warm, "host", f"mkdir -p storage; exec {PEER}/bin/python -m runicorn viewer {flags}"]
        lead = f"{local}:127.0.0.1:{remote}"
        began = time.perf_counter()
        # `-tt` has the remote viewer end with this process.
        with running([*viewer[:-2], "-tt", *viewer[-2:]]):
            subprocess.run([*warm, "-O", "forward", "-L", lead, "host"], check=True, timeout=TIMEOUT)
            poll_until(lambda: answers(local), TIMEOUT, "the viewer by hand")
            seconds = time.perf_counter() - began
        subprocess.run([*warm, "-O", "cancel", "-L", lead, "host"], check=True, timeout=TIMEOUT)
        poll_until(lambda: not accepts(remote), TIMEOUT, "the end of the viewer by hand")
        return {"seconds": seconds}

    table = interleave({OURS: ours, BY_HAND: by_hand}, rounds)
    values = column(table, "seconds")
    if port == host.port and (peer := stage.peer_server(host)) is not None:
        peer.post("connect", **account)
        values[RUNICORN] = [
            _started(peer, account, {"conda_env": "system"}, polls=True)["seconds"]
            for _ in range(stage.rounds(2, 1))
        ]
        note = "Runicorn's own server starts a stand-in, which costs it less than the real viewer"
    return Row(name, "s", values, OURS, BY_HAND, bar, note)


def _started(
    api: Api, account: dict[str, object], more: dict[str, str], *, polls: bool = False
) -> dict[str, float]:
    """`polls`: the server may answer before the viewer does; then it is asked every 10 ms."""
    began = time.perf_counter()
    session = api.post("viewer/start", **account, remote_root="~/storage", **more)["session"]
    seconds = time.perf_counter() - began
    if not answers(session["localPort"]):
        if not polls:
            raise Failed("the viewer was said to be ready, and did not answer")
        poll_until(lambda: answers(session["localPort"]), TIMEOUT, "the viewer")
        seconds = time.perf_counter() - began
    api.post("viewer/stop", session_id=session["sessionId"])
    return {"seconds": seconds}
