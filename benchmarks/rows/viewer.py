"""Starting the real viewer until its first 200 through the tunnel, against the same by hand.

By hand: `ssh host python -m runicorn viewer …` and `ssh -L`, both over a warm connection, and a
request every 10 ms. Our server makes that request itself and answers when it has its 200, so its
answer is the end; one more request by the client is only to prove it, and is not timed. All
contestants start the same Runicorn 0.7.2.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.api import Api, Failed, credentials
from benchmarks.figures import Bar, Row, Table, reason
from benchmarks.machine import accepts, answers, free_port, poll_until, running
from benchmarks.part import Part
from benchmarks.stage import PEER, REAL, ROUND_TRIP_MS, TIMEOUT, Stage
from tests.hosts.sshd import SshServer

OURS, BY_HAND, RUNICORN = "ours", "by hand", "Runicorn 0.7.2"
_BAR = Bar(1.1)


def measure(stage: Stage) -> Iterator[Part]:
    name = "viewer start until its first 200"
    if not PEER.exists():
        skipped = Row(name, "s", skipped="there is no .cache/runicorn-0.7.2 (make runicorn-0.7.2)")
        yield name, lambda: [skipped]
        return
    host = stage.host()
    far = stage.long_wire(host)
    yield name, partial(_near, stage, host, name)
    name += f", RTT {ROUND_TRIP_MS} ms"
    yield name, partial(_far, stage, host, far, name)


def _near(stage: Stage, host: SshServer, name: str) -> list[Row]:
    row = _compare(stage, host, host.port, 5, 2, seconds=25).row("seconds", name, "s", OURS, BY_HAND, _BAR)
    try:
        peer = stage.peer_server(host)
        assert peer is not None
        peer.post("connect", **credentials(host))
        row.values[RUNICORN] = [
            _started(peer, credentials(host), {"conda_env": "system"}, polls=True)["seconds"]
            for _ in range(stage.rounds(2, 1))
        ]
        row.note = "Runicorn's own server starts a stand-in, which costs it less than the real viewer"
    except Exception as error:
        row.failed[RUNICORN] = reason(error)
    return [row]


def _far(stage: Stage, host: SshServer, port: int, name: str) -> list[Row]:
    table = _compare(stage, host, port, 4, 1, seconds=25)
    return [table.row("seconds", name, "s", OURS, BY_HAND, _BAR, "through the relay")]


def _compare(stage: Stage, host: SshServer, port: int, full: int, quick: int, *, seconds: float) -> Table:
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

    contestants = {OURS: ours, BY_HAND: by_hand}
    return stage.interleave(contestants, full, quick, seconds=seconds, warm_up=True)


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
