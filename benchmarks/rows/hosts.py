"""How our server grows with the hosts it is connected to: an sshd each, and one stand-in viewer each."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

from benchmarks.api import Api, credentials
from benchmarks.figures import Curve, percentile
from benchmarks.machine import memory_mb, poll_until, thread_count
from benchmarks.part import Part
from benchmarks.rows.sessions import LIST
from benchmarks.stage import TIMEOUT, Stage
from tests.hosts.sshd import SshServer

NUMBERS = (1, 10, 30, 100)
QUICK_NUMBERS = (1, 3, 10)
_ASKED = 50
_SETTLED = 1.0  # seconds

Points = dict[int, list[float]]


def measure(stage: Stage) -> Iterator[Part]:
    yield "hosts", partial(_hosts, stage)


def _hosts(stage: Stage) -> Iterator[Curve]:
    numbers = QUICK_NUMBERS if stage.quick else NUMBERS
    hosts = [stage.host() for _ in range(numbers[-1])]
    api = stage.our_server(*((host, host.port) for host in hosts))
    # What the first ones make and leave is not the others'.
    session = api.start_viewer(credentials(hosts[0]))
    _ask(api)
    api.post("viewer/stop", session_id=session["sessionId"])
    _disconnect(api, hosts[0])
    connects: Points = {}
    idle = _Cost(api)
    for before, number in pairwise((0, *numbers)):
        for host in hosts[before:number]:
            api.post("connect", **credentials(host))
        connects[number] = [_reconnect(api, hosts[number - 1]) for _ in range(stage.rounds(5, 3))]
        idle.note(number)
    yield Curve("hosts: time to connect the last", "s", connects)
    yield from idle.curves("hosts")
    lists: Points = {}
    watched = _Cost(api)
    for before, number in pairwise((0, *numbers)):
        for host in hosts[before:number]:
            api.start_viewer(credentials(host))
        lists[number] = [_ask(api) for _ in range(stage.rounds(5, 3))]
        watched.note(number)
    yield Curve("viewers, one a host: p50 of /viewer/sessions", "ms", lists)
    yield from watched.curves("viewers, one a host")


class _Cost:
    """Memory and threads of a server, beyond what it has now."""

    def __init__(self, api: Api) -> None:
        self._pid = api.pid
        _wait_until_settled(api.pid)
        self._memory, self._threads = memory_mb(api.pid), thread_count(api.pid)
        self._memories: Points = {}
        self._running: Points = {}

    def note(self, number: int) -> None:
        _wait_until_settled(self._pid)
        self._memories[number] = [memory_mb(self._pid) - self._memory]
        self._running[number] = [float(thread_count(self._pid) - self._threads)]

    def curves(self, what: str) -> Iterator[Curve]:
        # Below that a fixed part shows.
        start = sorted(self._memories)[1]
        yield Curve(f"{what}: memory in all", "MB", self._memories, fitted_from=start)
        yield Curve(f"{what}: threads in all", "", self._running, fitted_from=start)


def _wait_until_settled(pid: int) -> None:
    """What is done in the background after a connect or a start has threads of its own, for a moment."""
    seen, since = -1, 0.0

    def is_settled() -> bool:
        nonlocal seen, since
        if (now := thread_count(pid)) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > _SETTLED

    poll_until(is_settled, TIMEOUT, "an end of what follows", every=0.05)


def _disconnect(api: Api, host: SshServer) -> None:
    account = credentials(host)
    api.post("disconnect", **{key: account[key] for key in ("host", "port", "username")})


def _reconnect(api: Api, host: SshServer) -> float:
    """-> seconds of a cold connect."""
    _disconnect(api, host)
    began = time.perf_counter()
    api.post("connect", **credentials(host))
    return time.perf_counter() - began


def _ask(api: Api) -> float:
    """-> ms, the median of several requests on one connection."""
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    for _ in range(_ASKED):
        began = time.perf_counter()
        connection.request("GET", LIST)
        connection.getresponse().read()
        taken.append((time.perf_counter() - began) * 1000)
    connection.close()
    return percentile(taken, 0.5)
