"""The tunnel's data path, against `ssh -L` as people run it and tuned."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figures import Bar, Measures, Row, Table, column, interleave
from benchmarks.stage import Forward, Stage, connection_id, credentials

OURS, PLAIN, TUNED, DIRECT = "ours", "ssh -L", "ssh -L tuned", "direct"
MB = 1_000_000


def measure(stage: Stage) -> list[Row]:
    host = stage.host()
    api = stage.our_server((host, host.port))
    session = api.start_viewer(credentials(host))
    far = session["remotePort"]
    ways = {
        OURS: Forward(session["localPort"], api.pid),
        PLAIN: stage.forward(host, far),
        TUNED: stage.forward(host, far, tuned=True),
        DIRECT: Forward(far, None),
    }
    return [*_bulk(stage, ways), *_small(stage, ways)]


def measure_far(stage: Stage) -> list[Row]:
    """Bulk over the long wire."""
    host = stage.host()
    port = stage.long_wire(host)
    api = stage.our_server((host, port))
    session = api.start_viewer(credentials(host, port))
    ways = {
        OURS: Forward(session["localPort"], api.pid),
        PLAIN: stage.forward(host, session["remotePort"], port=port),
        TUNED: stage.forward(host, session["remotePort"], tuned=True, port=port),
    }
    table = _each(ways, stage.rounds(3, 1), lambda way: way.load("bulk", 1, stage.rounds(64, 24) * MB))
    small = _each(ways, stage.rounds(2, 1), lambda way: way.load("latency", stage.rounds(15, 5)))
    api.post("disconnect", **_account(connection_id(host, port)), stop_viewers=True)
    note = "through the relay"
    return [
        Row(
            "tunnel bulk, 1 stream, RTT 100 ms",
            "MB/s",
            column(table, "rate"),
            OURS,
            PLAIN,
            Bar(1.2, at_most=False),
            note,
        ),
        Row("1 kB request, p50, RTT 100 ms", "ms", column(small, "p50"), OURS, TUNED, Bar(1.5), note),
    ]


def _bulk(stage: Stage, ways: dict[str, Forward]) -> list[Row]:
    size = stage.rounds(600, 200) * MB
    one = _each(ways, stage.rounds(5, 2), lambda way: way.load("bulk", 1, size))
    eight = _each(ways, stage.rounds(5, 2), lambda way: way.load("bulk", 8, size))
    per_gb = {who: [cpu / (size / 1e9) for cpu in one[who]["cpu"]] for who in one if who != DIRECT}
    return [
        Row("tunnel bulk, 1 stream", "MB/s", column(one, "rate"), OURS, PLAIN, Bar(1.2, at_most=False)),
        Row("tunnel bulk, 8 streams", "MB/s", column(eight, "rate"), OURS, PLAIN, Bar(1.2, at_most=False)),
        Row("tunnel bulk, 1 stream, to tuned", "MB/s", column(one, "rate"), OURS, TUNED),
        Row("tunnel bulk, 8 streams, to tuned", "MB/s", column(eight, "rate"), OURS, TUNED),
        Row("client CPU a GB, 1 stream", "s/GB", per_gb, OURS, TUNED, Bar(1.3), "our whole server process"),
    ]


def _small(stage: Stage, ways: dict[str, Forward]) -> list[Row]:
    rounds = stage.rounds(5, 2)
    count = stage.rounds(1000, 300)
    seconds = 1
    latency = _each(ways, rounds, lambda way: way.load("latency", count))
    rate = _each(ways, rounds, lambda way: way.load("rate", 16, seconds))
    tunnels = {who: way for who, way in ways.items() if who != DIRECT}
    beside = _each(tunnels, stage.rounds(3, 1), lambda way: way.load("latency", stage.rounds(300, 60), 8))
    # Last, and not for `direct`: the thousands of closed connections it leaves for a minute would slow
    # the others down, us above all (each new connection is looked up in a list that they are in).
    new = _each(tunnels, rounds, lambda way: way.load("new", 16, seconds))
    half = Bar(0.5, at_most=False)
    return [
        Row("1 kB request, p50", "ms", column(latency, "p50"), OURS, TUNED, Bar(1.5)),
        Row("1 kB request, p99", "ms", column(latency, "p99"), OURS, TUNED, Bar(2)),
        Row("requests/s, 16 connections", "1/s", column(rate, "rate"), OURS, TUNED, half),
        Row("new connections/s, 16 at once", "1/s", column(new, "rate"), OURS, TUNED, half),
        Row("1 kB request, p50, beside 8 stopped readers", "ms", column(beside, "p50"), OURS, PLAIN, Bar(1)),
    ]


def _each(ways: dict[str, Forward], rounds: int, run: Callable[[Forward], Measures]) -> Table:
    def bound(way: Forward) -> Callable[[], Measures]:
        return lambda: run(way)

    return interleave({who: bound(way) for who, way in ways.items()}, rounds, warm_up=False)


def _account(identifier: str) -> dict[str, object]:
    username, _, address = identifier.rpartition("@")
    host, _, port = address.rpartition(":")
    return {"username": username, "host": host, "port": int(port)}
