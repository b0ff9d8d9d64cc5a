"""The tunnel's data path, against `ssh -L` as people run it and tuned."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.figures import Bar, Row, Table
from benchmarks.part import Part
from benchmarks.stage import Forward, Stage

OURS, PLAIN, TUNED, DIRECT = "ours", "ssh -L", "ssh -L tuned", "direct"
MB = 1_000_000
_FASTER = Bar(1.2, at_most=False)
_HALF = Bar(0.5, at_most=False)

Ways = dict[str, Forward]


def measure(stage: Stage) -> Iterator[Part]:
    ways = _ways(stage)
    ways[DIRECT] = Forward(ways[OURS].far or ways[PLAIN].far, None)
    tunnels = {who: way for who, way in ways.items() if who != DIRECT}
    yield "tunnel bulk, 1 stream", partial(_bulk_of_one, stage, ways)
    yield "tunnel bulk, 8 streams", partial(_bulk_of_eight, stage, ways)
    yield "upload, 1 stream", partial(_upload, stage, ways, 1)
    yield "upload, 8 streams", partial(_upload, stage, ways, 8)
    yield "1 kB request", partial(_latency, stage, ways)
    yield "requests/s", partial(_rate, stage, ways)
    yield "1 kB request, p50, beside 8 stopped readers", partial(_beside, stage, tunnels)
    # Last, and not for `direct`: the thousands of closed connections it leaves for a minute could slow
    # the others down.
    yield "new connections/s", partial(_new, stage, tunnels)


def measure_far(stage: Stage) -> Iterator[Part]:
    """Over the long wire."""
    ways = _ways(stage, far=True)
    yield "tunnel bulk, RTT 100 ms", partial(_far_bulk, stage, ways)
    yield "upload, 1 stream, RTT 100 ms", partial(_far_upload, stage, ways, 1)
    yield "upload, 8 streams, RTT 100 ms", partial(_far_upload, stage, ways, 8)
    yield "1 kB request, RTT 100 ms", partial(_far_latency, stage, ways)


def _ways(stage: Stage, *, far: bool = False) -> Ways:
    host = stage.host()
    port = stage.long_wire(host) if far else None
    ours = stage.our_tunnel(host, port=port)
    end = ours.far or stage.far_end()
    return {
        OURS: ours,
        PLAIN: stage.forward(host, end, port=port),
        TUNED: stage.forward(host, end, tuned=True, port=port),
    }


def _bulk_of_one(stage: Stage, ways: Ways) -> list[Row]:
    size = stage.amount(400, 100) * MB
    table = stage.compare(ways, 4, 2, "bulk", 1, size, seconds=20)
    name = "tunnel bulk, 1 stream"
    cpu = table.row(
        "cpu", "client CPU a GB, 1 stream", "s/GB", OURS, TUNED, Bar(1.3), "our whole server process"
    )
    cpu.values = {
        who: [each / (size / 1e9) for each in cpu.values[who]] for who in cpu.values if who != DIRECT
    }
    return [
        table.row("rate", name, "MB/s", OURS, PLAIN, _FASTER),
        table.row("rate", f"{name}, to tuned", "MB/s", OURS, TUNED),
        cpu,
    ]


def _bulk_of_eight(stage: Stage, ways: Ways) -> list[Row]:
    size = stage.amount(400, 100) * MB
    table = stage.compare(ways, 4, 2, "bulk", 8, size, seconds=20)
    name = "tunnel bulk, 8 streams"
    return [
        table.row("rate", name, "MB/s", OURS, PLAIN, _FASTER),
        table.row("rate", f"{name}, to tuned", "MB/s", OURS, TUNED),
    ]


def _upload(stage: Stage, ways: Ways, streams: int) -> list[Row]:
    size = stage.amount(200, 60) * MB
    table = stage.compare(ways, 3, 1, "upload", streams, size, seconds=13)
    return _to_both(table, f"upload, {_counted(streams)}")


def _latency(stage: Stage, ways: Ways) -> list[Row]:
    table = stage.compare(ways, 5, 2, "latency", stage.amount(1000, 300), seconds=12)
    return [
        table.row("p50", "1 kB request, p50", "ms", OURS, TUNED, Bar(1.5)),
        table.row("p99", "1 kB request, p99", "ms", OURS, TUNED, Bar(2)),
    ]


def _rate(stage: Stage, ways: Ways) -> list[Row]:
    table = stage.compare(ways, 4, 2, "rate", 16, 1, seconds=18)
    return [table.row("rate", "requests/s, 16 connections", "1/s", OURS, TUNED, _HALF)]


def _beside(stage: Stage, tunnels: Ways) -> list[Row]:
    table = stage.compare(tunnels, 4, 1, "latency", stage.amount(200, 60), 8, seconds=13)
    return [table.row("p50", "1 kB request, p50, beside 8 stopped readers", "ms", OURS, PLAIN, Bar(1))]


def _new(stage: Stage, tunnels: Ways) -> list[Row]:
    table = stage.compare(tunnels, 4, 2, "new", 16, 1, seconds=14)
    return [table.row("rate", "new connections/s, 16 at once", "1/s", OURS, TUNED, _HALF)]


def _far_bulk(stage: Stage, ways: Ways) -> list[Row]:
    table = stage.compare(ways, 3, 1, "bulk", 1, stage.amount(64, 24) * MB, seconds=30)
    row = table.row("rate", "tunnel bulk, 1 stream, RTT 100 ms", "MB/s", OURS, PLAIN, _FASTER)
    row.note = "through the relay"
    return [row]


def _far_upload(stage: Stage, ways: Ways, streams: int) -> list[Row]:
    # As much a stream as shows the window, not the ends.
    size = stage.amount(16, 8) * MB * (1 if streams == 1 else 4)
    table = stage.compare(ways, 3, 1, "upload", streams, size, seconds=12)
    note = "through the relay; a channel's window for uploads is sshd's, 2 MiB, for everybody"
    return _to_both(table, f"upload, {_counted(streams)}, RTT 100 ms", note)


def _far_latency(stage: Stage, ways: Ways) -> list[Row]:
    table = stage.compare(ways, 2, 1, "latency", stage.amount(15, 5), seconds=12)
    name = "1 kB request, p50, RTT 100 ms"
    return [table.row("p50", name, "ms", OURS, TUNED, Bar(1.5), "through the relay")]


def _to_both(table: Table, name: str, note: str = "") -> list[Row]:
    return [
        table.row("rate", name, "MB/s", OURS, PLAIN, note=note),
        table.row("rate", f"{name}, to tuned", "MB/s", OURS, TUNED),
    ]


def _counted(streams: int) -> str:
    return "1 stream" if streams == 1 else f"{streams} streams"
