"""The list of viewers at 100 requests a second, against Runicorn's own server.

Runicorn starts one viewer at a time and pauses for four seconds in each, so here the clock of its viewer
manager runs twenty times as fast: the pauses are shorter, and what it does for a list stays as it is.
It gets as many viewers as it starts in its time. If that is fewer than ours, there are two rows: one with
as many for both, which is the fair one, and one with all of ours, which is harder for us.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.api import Api, Failed, credentials
from benchmarks.figures import Bar, Row, percentile, reason
from benchmarks.machine import closed_connections, free_port, memory_mb, thread_count
from benchmarks.part import Part
from benchmarks.stage import Stage
from tests.hosts.sshd import SshServer

OURS, RUNICORN = "ours", "Runicorn 0.7.2"
RATE = 100
_FIRST = 4  # what they make once is not the others'
LIST = "/api/remote/viewer/sessions"
_HASTENED = (
    "-c",
    "import time, types\n"
    "import runicorn.remote.viewer.manager as manager\n"
    "from runicorn.cli import main\n"
    "manager.time = types.SimpleNamespace(\n"
    "    time=lambda: time.time() * 20, sleep=lambda seconds: time.sleep(seconds / 20))\n"
    "raise SystemExit(main())",
)


def measure(stage: Stage) -> Iterator[Part]:
    yield "/viewer/sessions", partial(_sessions, stage)


def _sessions(stage: Stage) -> Iterator[Row]:
    host = stage.host(MaxSessions="200")
    number = stage.amount(50, 8)
    api = stage.our_server((host, host.port))
    start_viewers(api, credentials(host), _FIRST)
    memory, threads = memory_mb(api.pid), thread_count(api.pid)
    start_viewers(api, credentials(host), number - _FIRST)
    cost = (
        f"our server: {(memory_mb(api.pid) - memory) / (number - _FIRST):.2f} MB and "
        f"{(thread_count(api.pid) - threads) / (number - _FIRST):.1f} threads a viewer"
    )
    lists, missing = {OURS: (api, number)}, ""
    try:
        if (peer := stage.peer_server(host, program=_HASTENED)) is not None:
            few = _start_on_peer(peer, host, number, seconds=stage.amount(55, 10))
            lists[RUNICORN] = peer, few
    except (Failed, OSError, http.client.HTTPException) as error:
        missing = reason(error)
    yield _row(stage, lists, cost, missing)
    if RUNICORN in lists and few < number:
        for session in api.get("viewer/sessions")["sessions"][few:]:
            api.post("viewer/stop", session_id=session["sessionId"])
        yield _row(stage, {**lists, OURS: (api, few)}, "as many viewers for both", missing)


def _row(stage: Stage, lists: dict[str, tuple[Api, int]], note: str, missing: str) -> Row:
    seconds = stage.amount(3, 2)

    def paced(who: str) -> dict[str, float]:
        api, number = lists[who]
        return {"p99": _paced_p99(api, seconds, number)}

    runs = {who: partial(paced, who) for who in lists}
    table = stage.interleave(runs, 3, 2, seconds=25, warm_up=not stage.quick)
    viewers = lists[OURS][1]
    name = f"/viewer/sessions at {RATE} requests/s with {viewers} viewers, p99"
    theirs = f"; Runicorn has {lists[RUNICORN][1]}" if RUNICORN in lists else ""
    kept = f"; {closed_connections()} closed connections in TIME_WAIT meanwhile"
    row = table.row("p99", name, "ms", OURS, RUNICORN, Bar(1), f"stand-in viewers{theirs}; {note}{kept}")
    if missing:
        row.failed[RUNICORN] = missing
    return row


def start_viewers(api: Api, account: dict[str, object], number: int) -> None:
    """Start so many stand-in viewers, eight at a time."""

    def start(_: int) -> None:
        api.start_viewer(account)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(number)))


def _start_on_peer(peer: Api, host: SshServer, most: int, *, seconds: float) -> int:
    """-> how many it started in that time. It takes one port twice, so it is told which."""
    account = credentials(host)
    peer.post("connect", **account)
    ends_at = time.monotonic() + seconds
    number = 0
    while number < most and (number == 0 or time.monotonic() < ends_at):
        ports = {"local_port": free_port(), "remote_port": free_port()}
        peer.post("viewer/start", **account, remote_root="~/storage", conda_env="system", **ports)
        number += 1
    return number


def _paced_p99(api: Api, seconds: int, number: int) -> float:
    """Each request is timed from when it was due, so that a late one costs those behind it too."""
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    pause = threading.Event()
    began = time.perf_counter()
    for place in range(RATE * seconds):
        due = began + place / RATE
        pause.wait(max(0.0, due - time.perf_counter()))
        due = max(due, began)
        connection.request("GET", LIST)
        answer = connection.getresponse()
        body = answer.read()
        taken.append((time.perf_counter() - due) * 1000)
        if answer.status != 200 or body.count(b'"sessionId"') != number:
            raise Failed(f"{LIST}: {answer.status}, {body.count(b'sessionId')} of {number} viewers")
    connection.close()
    return percentile(taken, 0.99)
