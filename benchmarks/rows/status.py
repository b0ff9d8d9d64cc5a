"""What must be quick whatever happens: health and status beside connects that hang, the list of viewers."""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.figures import Bar, Row, column, interleave, percentile
from benchmarks.stage import (
    STAND_IN,
    Api,
    Failed,
    Stage,
    closed_connections,
    credentials,
    free_port,
    memory_mb,
    thread_count,
)
from tests.hosts.silent import SilentHost

OURS, RUNICORN = "ours", "Runicorn 0.7.2"
RATE = 100


def measure(stage: Stage) -> list[Row]:
    return [*_hanging(stage), *_sessions(stage)]


def _hanging(stage: Stage) -> list[Row]:
    api = stage.our_server()
    rows = []
    count = stage.rounds(200, 100)
    for number in (1, 4, 8):

        def idle() -> dict[str, float]:
            return {"p99": _p99(api, ["/api/health", "/api/remote/status"], count)}

        def beside(number: int = number) -> dict[str, float]:
            with SilentHost() as silent, ThreadPoolExecutor(number) as pool:
                # Several connects to one account wait for the first, so these are to several.
                for place in range(number):
                    body = {"host": silent.host, "port": silent.port, "username": f"u{place}"}
                    pool.submit(api.request, "POST", "/api/remote/connect", {**body, "password": "p"})
                silent.accept(number)
                measured = {"p99": _p99(api, ["/api/health", "/api/remote/status"], count)}
                silent.close()  # ends the connects
            return measured

        hanging = f"beside {number} hanging"
        table = interleave({hanging: beside, "idle": idle}, stage.rounds(3, 2), warm_up=False)
        rows.append(
            Row(
                f"/api/health and /status, p99, {number} connects hang",
                "ms",
                column(table, "p99"),
                hanging,
                "idle",
                Bar(2),
            )
        )
    return rows


def _sessions(stage: Stage) -> list[Row]:
    host = stage.host(MaxSessions="100")
    api = stage.our_server((host, host.port))
    number = stage.rounds(50, 12)
    account = credentials(host)
    memory, threads = memory_mb(api.pid), thread_count(api.pid)
    _start(api, account, number, STAND_IN)
    cost = (
        f"our server: {(memory_mb(api.pid) - memory) / number:.2f} MB and "
        f"{(thread_count(api.pid) - threads) / number:.1f} threads a viewer"
    )
    contestants, numbers = {OURS: api}, {OURS: number}
    name = f"/viewer/sessions at {RATE} requests/s with {number} viewers, p99"
    peer = stage.peer_server(host)
    missing = ""
    if peer is not None:
        try:
            peer.post("connect", **account)
            few = stage.rounds(4, 2)
            began = time.perf_counter()
            _start(peer, account, few, "system")
            each = (time.perf_counter() - began) / few
            contestants[RUNICORN] = peer
            numbers[RUNICORN] = few
            missing = f"; Runicorn with {few} viewers only: it starts one at a time, {each:.1f} s each"
        except (Failed, OSError) as error:
            missing = f"; Runicorn 0.7.2 did not start them: {str(error)[:200]}"
    seconds = stage.rounds(4, 2)

    def paced(who: str) -> dict[str, float]:
        return {"p99": _paced_p99(contestants[who], "/api/remote/viewer/sessions", seconds, numbers[who])}

    runs = {who: partial(paced, who) for who in contestants}
    table = interleave(runs, stage.rounds(4, 2))
    kept = closed_connections()
    return [
        Row(
            name,
            "ms",
            column(table, "p99"),
            OURS,
            RUNICORN,
            Bar(1),
            f"stand-in viewers; {kept} closed connections in TIME_WAIT meanwhile; {cost}{missing}",
        )
    ]


def _start(api: Api, account: dict[str, object], number: int, environment: str) -> None:
    """Start so many stand-in viewers, eight at a time."""

    def start(_: int) -> None:
        body = {**account, "remote_root": "~/storage", "conda_env": environment}
        if environment != STAND_IN:  # the peer takes the same port twice
            body |= {"local_port": free_port(), "remote_port": free_port()}
        status, answer = api.request("POST", "/api/remote/viewer/start", body)
        if status != 200:
            raise Failed(f"a viewer did not start: {status} {answer}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(number)))


def _p99(api: Api, paths: list[str], count: int) -> float:
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    for number in range(count):
        began = time.perf_counter()
        connection.request("GET", paths[number % len(paths)])
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise Failed(f"{paths[number % len(paths)]}: {answer.status}")
    connection.close()
    return percentile(taken, 0.99)


def _paced_p99(api: Api, path: str, seconds: int, number: int) -> float:
    """Each request is timed from when it was due, so that a late one costs those behind it too."""
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    pause = threading.Event()
    began = time.perf_counter()
    for place in range(RATE * seconds):
        due = began + place / RATE
        pause.wait(max(0.0, due - time.perf_counter()))
        due = max(due, began)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        taken.append((time.perf_counter() - due) * 1000)
        if answer.status != 200 or body.count(b'"sessionId"') != number:
            raise Failed(f"{path}: {answer.status}, {body.count(b'sessionId')} of {number} viewers")
    connection.close()
    return percentile(taken, 0.99)
