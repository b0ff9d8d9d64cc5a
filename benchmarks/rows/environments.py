"""The environments of a host: how many SSH channels, and how long against one `ssh host sh -s`."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.api import Api, connection_id, credentials
from benchmarks.figures import Bar, Curve, Result, Row, timed
from benchmarks.machine import poll_until
from benchmarks.part import Part
from benchmarks.stage import ROUND_TRIP_MS, TIMEOUT, Stage
from runicorn_remote import onhost
from tests.hosts.sshd import SshServer
from tests.onhost.homes import install_runicorn, make_conda_root

OURS, SSH = "ours", "one ssh exec"
NUMBERS = (0, 5, 20, 50)
_QUIET = 0.7  # seconds
# As sshd's debug log says it for each exec, SFTP or settling session.
_SESSION = "server_input_channel_open: ctype session"


def measure(stage: Stage) -> Iterator[Part]:
    host = stage.host()
    talkative = stage.host(LogLevel="DEBUG1")
    yield "SSH channels", partial(_channels, stage, talkative)
    yield "/conda-envs", partial(_seconds, stage, host)
    yield f"/conda-envs, RTT {ROUND_TRIP_MS} ms", partial(_far, stage, host)


def _channels(stage: Stage, host: SshServer) -> Iterator[Row]:
    # The heartbeat's probes are sessions too.
    api = stage.our_server((host, host.port), heartbeat_interval="3600")
    api.post("connect", **credentials(host))
    which = {"connection_id": connection_id(host)}

    def count(ask: Callable[[], object]) -> float:
        before = host.log().count(_SESSION)
        ask()
        # An extra channel could still be on its way into the log: a known one after it flushes it.
        api.get("fs/exists", **which, path="~")
        poll_until(lambda: host.log().count(_SESSION) > before, 5, "sshd's log")
        return float(host.log().count(_SESSION) - before - 1)

    _wait_until_quiet(host)
    for number in NUMBERS:
        _make_environments(host, number)
        values = {OURS: [count(lambda: api.get("conda-envs", **which))]}
        name = f"SSH channels of /conda-envs, {number} environments"
        yield Row(name, "", values, OURS, bar=Bar(1, absolute=True))
    after = {
        "/env-configs": lambda: api.get("env-configs", **which),
        "/config": lambda: api.get("config", **which, conda_env="system"),
    }
    for route, ask in after.items():
        name = f"SSH channels of {route} after it"
        yield Row(name, "", {OURS: [count(ask)]}, OURS, bar=Bar(0, absolute=True))
    for route, ask in after.items():
        # A new connection knows nothing yet.
        account = credentials(host)
        api.post("disconnect", **{key: account[key] for key in ("host", "port", "username")})
        api.post("connect", **account)
        _wait_until_quiet(host)
        name = f"SSH channels of {route} alone"
        yield Row(name, "", {OURS: [count(ask)]}, OURS, bar=Bar(1, absolute=True))


def _wait_until_quiet(host: SshServer) -> None:
    """A connect is followed by sessions of its own, in the background: a command that settles the connection,
    and a question for viewers that an earlier run of the server left there.
    """
    seen, since = -1, 0.0

    def is_quiet() -> bool:
        nonlocal seen, since
        if (now := host.log().count(_SESSION)) != seen:
            seen, since = now, time.monotonic()
        return seen > 0 and time.monotonic() - since > _QUIET

    poll_until(is_quiet, 20, "an end of what follows a connect", every=0.05)


def _seconds(stage: Stage, host: SshServer) -> Iterator[Result]:
    near = _Asked(stage, host, host.port)
    points = {}
    for number in NUMBERS:
        _make_environments(host, number)
        row = near.row(f"/conda-envs, {number} environments", 9, 4, Bar(1.3))
        points[number] = row.values.get(OURS, [])
        yield row
    yield Curve("environments of a host: seconds of /conda-envs", "s", points)


def _far(stage: Stage, host: SshServer) -> list[Row]:
    _make_environments(host, 20)
    far = _Asked(stage, host, stage.long_wire(host))
    name = f"/conda-envs, 20 environments, RTT {ROUND_TRIP_MS} ms"
    return [far.row(name, 5, 2, Bar(1.2), "through the relay")]


class _Asked:
    """A host that is connected, by us and by a warm `ssh`."""

    def __init__(self, stage: Stage, host: SshServer, port: int) -> None:
        self._stage = stage
        self._api: Api = stage.our_server((host, port))
        self._which = {"connection_id": connection_id(host, port)}
        self._api.post("connect", **credentials(host, port))
        self._command = [*stage.master(host, port=port), "host", "sh -s"]
        self._script = onhost.build("survey", {"remote_root": None, "environment": None}).script.encode()

    def row(self, name: str, full: int, quick: int, bar: Bar, note: str = "") -> Row:
        def ours() -> dict[str, float]:
            return dict(timed(lambda: self._api.get("conda-envs", **self._which)))

        def ssh() -> dict[str, float]:
            return dict(timed(self._run))

        contestants = {OURS: ours, SSH: ssh}
        table = self._stage.interleave(contestants, full, quick, seconds=8, warm_up=True)
        return table.row("seconds", name, "s", OURS, SSH, bar, note)

    def _run(self) -> None:
        subprocess.run(self._command, input=self._script, capture_output=True, timeout=TIMEOUT, check=True)


def _make_environments(host: SshServer, number: int) -> None:
    root = host.home / "miniconda3"
    shutil.rmtree(root, ignore_errors=True)
    if number:
        names = [f"env{place:02}" for place in range(number - 1)]  # and `base`
        make_conda_root(root, *names)
        for name in names[::2]:
            install_runicorn(root / "envs" / name, "0.7.2")
