"""What must be quick whatever happens: health and status beside connects that hang."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.api import Api, Failed
from benchmarks.figures import Bar, Measures, Row, percentile
from benchmarks.part import Part
from benchmarks.stage import Stage
from tests.hosts.silent import SilentHost

_PATHS = ("/api/health", "/api/remote/status")


def measure(stage: Stage) -> Iterator[Part]:
    api = stage.our_server()
    for number in (1, 4, 8):
        name = f"/api/health and /status, p99, {number} connects hang"
        yield name, partial(_row, stage, api, number, name)


def _row(stage: Stage, api: Api, number: int, name: str) -> list[Row]:
    count = stage.amount(200, 100)

    def idle() -> Measures:
        return {"p99": _p99(api, count)}

    def beside() -> Measures:
        with SilentHost() as silent, ThreadPoolExecutor(number) as pool:
            # Several connects to one account wait for the first, so these are to several.
            for place in range(number):
                body = {"host": silent.host, "port": silent.port, "username": f"u{place}"}
                pool.submit(api.request, "POST", "/api/remote/connect", {**body, "password": "p"})
            silent.accept(number)
            measured = {"p99": _p99(api, count)}
            silent.close()  # ends the connects
        return measured

    hanging = f"beside {number} hanging"
    table = stage.interleave({hanging: beside, "idle": idle}, 3, 2, seconds=10)
    return [table.row("p99", name, "ms", hanging, "idle", Bar(2))]


def _p99(api: Api, count: int) -> float:
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    for number in range(count):
        path = _PATHS[number % len(_PATHS)]
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - began) * 1000)
        if answer.status != 200:
            raise Failed(f"{path}: {answer.status}")
    connection.close()
    return percentile(taken, 0.99)
