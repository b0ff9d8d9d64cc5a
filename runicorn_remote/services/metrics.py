"""What Prometheus is told. Names begin with `runicorn_remote_`; docs/observability.md lists them.

Events are counted when they happen. What has a state anyway (sessions, tunnels, the heartbeat) is read
when somebody asks: nothing is done per packet, and nothing here touches the network or a lock that is
held across it. Labels have few values: routes as patterns, methods, statuses, error codes; no names of
hosts or people.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from runicorn_remote._version import __version__
from runicorn_remote.errors import RemoteError
from runicorn_remote.services.readiness import reasons_against
from runicorn_remote.services.session_fields import ENDED, STATUSES

if TYPE_CHECKING:
    from runicorn_remote.services import Services

_PREFIX = "runicorn_remote"
# From an answer out of memory to a viewer that starts slowly. Seconds.
_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# There from the start, so that the first one is seen as an increase.
_EVENTS = (
    ("link.lost", "LINK_LOST"),
    ("viewer.reconnected", "ok"),
    ("viewer.restarted", "ok"),
    ("viewer.crashed", "VIEWER_CRASHED"),
    ("viewer.swept", "ok"),
)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Metrics:
    """One registry for one `Services`. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            f"{_PREFIX}_http_requests",
            "Answered requests.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            f"{_PREFIX}_http_request_seconds",
            "From a request to its answer.",
            ("route", "method"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        # Looking series up by their labels would be most of what a request costs here.
        self._request_series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.slow_requests = Gauge(
            f"{_PREFIX}_slow_requests",
            "Requests that wait for a host just now.",
            registry=self.registry,
        )
        self.ssh_connects = Outcomes(f"{_PREFIX}_ssh_connect", "Logins to hosts", self.registry)
        self.viewer_starts = Outcomes(
            f"{_PREFIX}_viewer_start", "Starts of viewers on request", self.registry
        )
        self._start_phases = Histogram(
            f"{_PREFIX}_viewer_start_phase_seconds",
            "Steps of starts that succeeded.",
            ("phase",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.events = Counter(
            f"{_PREFIX}_events",
            "What happened by itself: links lost, viewers reconnected, restarted, ended, swept.",
            ("event", "result"),
            registry=self.registry,
        )

        for event in _EVENTS:
            self.events.labels(*event)

    def request(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count one. `route`: the pattern, None for a path that no route knows."""
        key = (route or "(none)", method if method in _METHODS else "(other)", status)
        series = self._request_series.get(key)
        if series is None:
            series = self._requests.labels(*key), self._request_seconds.labels(*key[:2])
            self._request_series[key] = series
        series[0].inc()
        series[1].observe(seconds)

    def start_took(self, phases: Iterable[Mapping[str, Any]]) -> None:
        """A viewer is ready; `phases` as its session lists them."""
        for phase in phases:
            if phase["seconds"] is not None:
                self._start_phases.labels(phase["name"]).observe(phase["seconds"])


class Outcomes:
    """How often something was tried, by outcome (`ok`, or the code of the error); how long it took if ok."""

    def __init__(self, name: str, what: str, registry: CollectorRegistry) -> None:
        self._count = Counter(f"{name}s", f"{what}, by outcome.", ("outcome",), registry=registry)
        self._seconds = Histogram(
            f"{name}_seconds", f"{what} that succeeded.", buckets=_BUCKETS, registry=registry
        )

        self._count.labels("ok")

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        began = time.perf_counter()
        outcome = "INTERNAL_ERROR"
        try:
            yield
            outcome = "ok"
            self._seconds.observe(time.perf_counter() - began)
        except RemoteError as error:
            outcome = error.code
            raise
        finally:
            self._count.labels(outcome).inc()


class StateCollector(Collector):
    """Reads the services when Prometheus asks."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        services = self._services
        yield InfoMetricFamily(_PREFIX, "The server.", {"version": __version__})
        yield _gauge("ready", "1 when /readyz answers 200.", not reasons_against(services))
        yield _gauge("ssh_connections", "Open SSH connections.", len(services.pool))
        yield _gauge("slow_requests_limit", "The setting slow_requests.", services.settings.slow_requests)
        age = services.heartbeat.age()
        if age is not None:
            yield _gauge("heartbeat_age_seconds", "Since the heartbeat last looked at all viewers.", age)
        yield CounterMetricFamily(
            f"{_PREFIX}_audit_lines_lost",
            "Lines of the audit log that could not be written.",
            services.audit.lost,
        )
        yield from self._viewers()

    def _viewers(self) -> Iterator[Metric]:
        sessions, traffic = self._services.sessions.census()
        statuses = Tally(session.status for session in sessions)
        by_status = GaugeMetricFamily(f"{_PREFIX}_sessions", "Viewer sessions, by status.", labels=["status"])
        for status in STATUSES:
            by_status.add_metric([status], statuses[status])
        yield by_status
        tunnels = sum(session.tunnel is not None and session.status not in ENDED for session in sessions)
        yield _gauge("tunnels", "Open local ports.", tunnels)
        yield _gauge("tunnel_connections", "Open connections through tunnels.", traffic.open_connections)
        opened = CounterMetricFamily(
            f"{_PREFIX}_tunnel_connections_opened", "Connections through tunnels.", traffic.total_connections
        )
        carried = CounterMetricFamily(
            f"{_PREFIX}_tunnel_bytes", "Bytes through tunnels; in: to local clients.", labels=["direction"]
        )
        carried.add_metric(["in"], traffic.bytes_in)
        carried.add_metric(["out"], traffic.bytes_out)
        yield from (opened, carried)


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", what, float(value))
