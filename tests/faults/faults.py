"""The faults: what is done to whom, and what has to be so again afterwards.

Each strikes once on a stage where all viewers run, and leaves it so. It returns how long that took, and
raises `NotRecovered` where something did not come back, or came back as something else.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runicorn_remote.errors import LocalPortInUse
from runicorn_remote.ssh.loopback import listen_on_loopback
from tests.faults import namespace
from tests.faults.namespace import NetworkNamespace
from tests.faults.stage import LONGEST, NotRecovered, Setting, Stage
from tests.hosts import processes
from tests.hosts.waiting import until
from tests.hosts.weak_network import WeakNetwork

STRAIGHT = Setting()
RELAY = Setting(network="relay")
NAMESPACE = Setting(network="namespace")
KEEP = Setting(settings={"ON_SHUTDOWN": "keep"})
SMALL_DISK = Setting(small_disk=True)
# The heartbeat alone would look once an hour.
MOVABLE_CLOCK = Setting(
    network="relay", movable_clock=True, settings={"HEARTBEAT_INTERVAL": "3600", "MAX_RESTARTS": "100"}
)


@dataclass(frozen=True)
class Outcome:
    """Seconds: until the same URLs answered again after the fault was over; until its begin was shown."""

    recovered: float
    noticed: float | None = None


@dataclass(frozen=True)
class Times:
    """How long the faults that have a length last, in seconds. They last at least until they are noticed."""

    freeze: float = 60.0
    cut: float = 20.0
    restart: float = 2.0


@dataclass(frozen=True)
class Fault:
    """`within`: seconds that the recovery may take; None: there is only the common limit."""

    name: str
    what: str
    strike: Callable[[Stage, int, Times], Outcome]
    setting: Setting = STRAIGHT
    within: float | None = None
    noticed_within: float | None = None
    why_not: Callable[[], str | None] = lambda: None


def kill_sessions(stage: Stage, number: int, times: Times) -> Outcome:
    before = stage.before
    stage.host.kill_sessions()
    seconds = stage.seconds_until_all_answer()
    stage.expect_same_viewers()
    _expect_more("reconnects", before, stage)
    return Outcome(seconds)


def freeze_host(stage: Stage, number: int, times: Times) -> Outcome:
    return _silence(stage, stage.host.freeze, stage.host.thaw, times.freeze)


def cut_network(stage: Stage, number: int, times: Times) -> Outcome:
    assert isinstance(stage.network, (WeakNetwork, NetworkNamespace))
    return _silence(stage, stage.network.cut, stage.network.restore, times.cut)


def restart_host(stage: Stage, number: int, times: Times) -> Outcome:
    before = stage.before
    stage.host.halt()
    noticed = stage.seconds_until_no_link()
    _wait(times.restart)
    stage.host.start()
    seconds = stage.seconds_until_all_answer()
    stage.expect_same_viewers()
    _expect_more("reconnects", before, stage)
    return Outcome(seconds, noticed)


def kill_viewer(stage: Stage, number: int, times: Times) -> Outcome:
    victim = stage.viewer(number)
    os.killpg(victim["remotePid"], signal.SIGKILL)
    seconds = stage.seconds_until_answer(victim)
    stage.expect_same_viewers(but=victim)
    if stage.before[victim["sessionId"]]["remotePort"] != victim["remotePort"]:
        raise NotRecovered(f"another remote port than {victim['remotePort']}")
    return Outcome(seconds)


def freeze_viewer(stage: Stage, number: int, times: Times) -> Outcome:
    victim = stage.viewer(number)
    os.kill(victim["remotePid"], signal.SIGSTOP)
    try:
        noticed = stage.seconds_until(
            lambda shown: shown[victim["sessionId"]]["status"] == "degraded", "the viewer is degraded"
        )
        others = [known for known in stage.before.values() if known is not victim]
        if others:
            stage.seconds_until_answer(*others)
    finally:
        os.kill(victim["remotePid"], signal.SIGCONT)
    seconds = stage.seconds_until_answer(victim)
    stage.expect_same_viewers()
    return Outcome(seconds, noticed)


def kill_server(stage: Stage, number: int, times: Times) -> Outcome:
    stage.server.kill()
    return _next_server(stage)


def keep_viewers(stage: Stage, number: int, times: Times) -> Outcome:
    status = stage.server.stop(signal.SIGTERM)
    if status != 0:
        raise NotRecovered(f"the server ended with {status}")
    return _next_server(stage)


def take_local_port(stage: Stage, number: int, times: Times) -> Outcome:
    victim = stage.viewer(number)
    stage.server.kill()
    listeners = listen_on_loopback(victim["localPort"])
    try:
        stage.restart_server()
        stage.seconds_until(
            lambda shown: shown[victim["sessionId"]]["errorCode"] == "LOCAL_PORT_IN_USE",
            "the session says that its port is taken",
        )
        others = [known for known in stage.before.values() if known is not victim]
        if others:
            stage.seconds_until_answer(*others)
    finally:
        for listener in listeners:
            listener.close()
    seconds = stage.seconds_until_answer(victim)
    stage.expect_same_viewers()
    return Outcome(seconds)


def take_remote_port(stage: Stage, number: int, times: Times) -> Outcome:
    victim = stage.viewer(number)
    os.killpg(victim["remotePid"], signal.SIGKILL)
    listeners = until(lambda: _taken(victim["remotePort"]), LONGEST, "the port is taken")
    try:
        # Whoever has the port now accepts connections and says nothing.
        seconds = stage.seconds_until_answer(victim)
        stage.expect_same_viewers(but=victim)
    finally:
        for listener in listeners:
            listener.close()
    if stage.before[victim["sessionId"]]["remotePort"] == victim["remotePort"]:
        raise NotRecovered("the taken port was not taken")
    return Outcome(seconds)


def fill_disk(stage: Stage, number: int, times: Times) -> Outcome:
    """Something has to be written while that is impossible; later it is, and a killed server finds it."""
    victim = stage.viewer(number)
    stage.disk.fill(stage.server.pid)
    try:
        os.killpg(victim["remotePid"], signal.SIGKILL)
        stage.seconds_until_answer(victim)
        stage.expect_same_viewers(but=victim)
        if {entry["pid"] for entry in stage.remembered()} == _pids(stage):
            raise NotRecovered("the disk was not full")
    finally:
        stage.disk.free(stage.server.pid)
    began = time.monotonic()
    until(lambda: {entry["pid"] for entry in stage.remembered()} == _pids(stage), LONGEST, "it is written")
    seconds = time.monotonic() - began
    stage.server.kill()
    _next_server(stage)
    return Outcome(seconds)


def jump_clock(stage: Stage, number: int, times: Times) -> Outcome:
    """As after a sleep: the links are dead, nobody has said so, and the wall clock is hours ahead."""
    assert isinstance(stage.network, WeakNetwork)
    before = stage.before
    stage.network.strand()
    stage.move_clock(3 * 3600.0 if number % 2 == 0 else -3 * 3600.0)
    began = time.monotonic()
    noticed = stage.seconds_until(
        lambda shown: all(
            session["reconnects"] > before[session_id]["reconnects"] or not session["isActive"]
            for session_id, session in shown.items()
        ),
        "the loss is noticed",
    )
    stage.seconds_until_all_answer()
    seconds = time.monotonic() - began
    stage.expect_same_viewers()
    _expect_more("reconnects", before, stage)
    return Outcome(seconds, noticed)


FAULTS = (
    Fault("connection killed", "sshd's processes of our connections get SIGKILL", kill_sessions, within=5.0),
    Fault(
        "sshd restarted",
        "listener and connections are killed, the listener is started again 2 s later",
        restart_host,
        within=5.0,
        noticed_within=5.0,
    ),
    Fault(
        "sshd frozen",
        "listener and connections get SIGSTOP, later SIGCONT",
        freeze_host,
        within=15.0,
        noticed_within=15.0,
    ),
    Fault(
        "network silent (relay)",
        "a relay stops forwarding, later goes on",
        cut_network,
        RELAY,
        within=15.0,
        noticed_within=15.0,
    ),
    Fault(
        "network silent (cable)",
        "the host's interface goes down in its namespace, later up",
        cut_network,
        NAMESPACE,
        within=15.0,
        noticed_within=15.0,
        why_not=namespace.why_not,
    ),
    Fault("viewer killed", "one viewer gets SIGKILL", kill_viewer),
    Fault("viewer frozen", "one viewer gets SIGSTOP, is shown as degraded, gets SIGCONT", freeze_viewer),
    Fault("server killed", "our server gets SIGKILL and is started again", kill_server),
    Fault("server restarted", "SIGTERM with on_shutdown = keep, started again", keep_viewers, KEEP),
    Fault(
        "local port taken",
        "the server gets SIGKILL, another process takes a viewer's local port, the server is started, "
        "later the port is released",
        take_local_port,
    ),
    Fault(
        "remote port taken", "a viewer gets SIGKILL, another process takes its remote port", take_remote_port
    ),
    Fault(
        "disk full",
        "no room for the state file while a viewer crashes; then room, and SIGKILL for the server",
        fill_disk,
        SMALL_DISK,
    ),
    Fault(
        "clock jump",
        "all connections are dead without a word, the wall clock jumps by 3 h",
        jump_clock,
        MOVABLE_CLOCK,
        within=15.0,
    ),
)


def _silence(stage: Stage, begin: Callable[[], None], end: Callable[[], None], duration: float) -> Outcome:
    before, began = stage.before, time.monotonic()
    begin()
    try:
        noticed = stage.seconds_until_no_link()
        _wait(began + duration - time.monotonic())
    finally:
        end()
    seconds = stage.seconds_until_all_answer()
    stage.expect_same_viewers()
    _expect_more("reconnects", before, stage)
    return Outcome(seconds, noticed)


def _next_server(stage: Stage) -> Outcome:
    dead = [pid for pid in _pids(stage) if not processes.is_alive(pid)]
    if dead:
        raise NotRecovered(f"viewers ended with the server: {dead}")
    began = time.monotonic()
    stage.restart_server()
    stage.seconds_until_all_answer()
    seconds = time.monotonic() - began
    stage.expect_same_viewers()
    return Outcome(seconds)


def _taken(port: int) -> list[socket.socket]:
    """Empty while the dead process has not let go of it."""
    try:
        return listen_on_loopback(port)
    except LocalPortInUse:
        return []


def _pids(stage: Stage) -> set[int]:
    return {session["remotePid"] for session in stage.before.values()}


def _expect_more(counter: str, before: dict[str, dict[str, int]], stage: Stage) -> None:
    """Else the fault has hit nothing, and its recovery means nothing."""
    for session_id, known in before.items():
        if stage.before[session_id][counter] <= known[counter]:
            raise NotRecovered(f"{counter} of {session_id} is still {known[counter]}")


def _wait(seconds: float) -> None:
    threading.Event().wait(max(0.0, seconds))
