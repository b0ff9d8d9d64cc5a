"""What each knob of the tunnel does: the same tunnel without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.api import Failed
from benchmarks.figures import Row
from benchmarks.one_tunnel import (
    as_it_is,
    no_settling_command,
    no_tcp_nodelay,
    one_window_for_all_wires,
    packets_of_16_kib,
    packets_of_64_kib,
    paramikos_cipher_order,
    paramikos_key_renewal,
    paramikos_packetizer,
    window_of_16_mib,
)
from benchmarks.part import Part
from benchmarks.stage import Broken, Forward, Stage

MB = 1_000_000
_RENEWAL = 700 * MB  # one renewal, after 512 MiB

Knob = Callable[[], None]


def measure(stage: Stage) -> Iterator[Part]:
    tunnels = _Tunnels(stage)
    yield "knobs of a small request", partial(_small, stage, tunnels)
    knobs = (paramikos_packetizer, packets_of_16_kib, packets_of_64_kib)
    yield "knobs of bulk, 8 streams", partial(_bulk, stage, tunnels, 8, *knobs)
    more = (*knobs, paramikos_cipher_order, window_of_16_mib)
    yield "knobs of bulk, 1 stream", partial(_bulk, stage, tunnels, 1, *more)
    yield "knob: renewal of keys", partial(_renewal, stage, tunnels)
    yield "knob: window", partial(_window, stage, tunnels)


class _Tunnels:
    """One for each knob, all to one host; made when first asked for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._host = stage.host()
        self._far = stage.far_end()
        self._made: dict[Knob, Forward] = {}

    def near(self, *knobs: Knob) -> dict[str, Forward]:
        """As it is, and so. By the knobs' names."""
        for knob in (as_it_is, *knobs):
            if knob not in self._made:
                self._made[knob] = self._make(knob, self._host.port)
        return {_words(knob): self._made[knob] for knob in (as_it_is, *knobs)}

    def far(self, knob: Knob) -> dict[str, Forward]:
        """The same over the long wire."""
        wire = self._stage.long_wire(self._host)
        return {_words(each): self._make(each, wire) for each in (as_it_is, knob)}

    def _make(self, knob: Knob, port: int) -> Forward:
        host = self._host
        known = host.directory / f"known_hosts_of_{port}"
        known.write_text("".join(f"[{host.host}]:{port} {key}\n" for key in host.host_keys.values()))
        account = [host.host, str(port), host.username, str(host.client_key)]
        arguments = [knob.__name__, str(known), *account, str(self._far)]
        process = self._stage.process(
            [sys.executable, "-m", "benchmarks.one_tunnel", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            return Broken(Failed("no tunnel: see what it printed"))
        return Forward(int(line), process.pid)


def _small(stage: Stage, tunnels: _Tunnels) -> Iterator[Row]:
    knobs = (no_settling_command, no_tcp_nodelay, paramikos_packetizer)
    # Few: without the settling command some take 44 ms.
    latency = stage.compare(tunnels.near(*knobs), 4, 1, "latency", stage.amount(300, 100), seconds=13)
    for knob in knobs:
        for measure in ("p50", "p99"):
            name = f"knob: {_words(knob)}; 1 kB request {measure}"
            yield latency.row(measure, name, "ms", _words(as_it_is), _words(knob), only=_pair(knob))
    rate = stage.compare(tunnels.near(*knobs[1:]), 3, 1, "rate", 16, 1, seconds=12)
    for knob in knobs[1:]:
        name = f"knob: {_words(knob)}; requests/s, 16 connections"
        yield rate.row("rate", name, "1/s", _words(as_it_is), _words(knob), only=_pair(knob))


def _bulk(stage: Stage, tunnels: _Tunnels, streams: int, *knobs: Knob) -> Iterator[Row]:
    size = stage.amount(200, 100) * MB
    table = stage.compare(tunnels.near(*knobs), 3, 1, "bulk", streams, size, seconds=16)
    counted = "1 stream" if streams == 1 else f"{streams} streams"
    for knob in knobs:
        for measure, unit in (("rate", "MB/s"), ("cpu", "s")):
            name = f"knob: {_words(knob)}; bulk {measure}, {counted}"
            yield table.row(measure, name, unit, _words(as_it_is), _words(knob), only=_pair(knob))


def _renewal(stage: Stage, tunnels: _Tunnels) -> Iterator[Row]:
    knob = paramikos_key_renewal
    table = stage.compare(tunnels.near(knob), 3, 1, "bulk", 1, _RENEWAL, seconds=15)
    for measure, unit, shown in (("rate", "MB/s", "rate"), ("stall", "ms", "longest stall")):
        name = f"knob: {_words(knob)}; bulk {shown}"
        note = f"{_RENEWAL // MB} MB each: a renewal in each with paramiko's 2^29 bytes, none with 2^36"
        yield table.row(measure, name, unit, _words(as_it_is), _words(knob), note=note)


def _window(stage: Stage, tunnels: _Tunnels) -> Iterator[Row]:
    knob = one_window_for_all_wires
    table = stage.compare(tunnels.far(knob), 3, 1, "bulk", 1, stage.amount(40, 20) * MB, seconds=12)
    name = f"knob: {_words(knob)}; bulk rate, RTT 100 ms"
    yield table.row("rate", name, "MB/s", _words(as_it_is), _words(knob), note="through the relay")


def _words(knob: Knob) -> str:
    assert knob.__doc__
    return knob.__doc__


def _pair(knob: Knob) -> tuple[str, str]:
    return _words(as_it_is), _words(knob)
