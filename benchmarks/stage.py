"""What the rows need, started once: hosts, our server, `ssh` and its connections, a way to ask for things."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks import far_end
from benchmarks.api import STAND_IN, Api, Failed, credentials
from benchmarks.figures import Measures, Table, interleave
from benchmarks.machine import accepts, answers, cpu_seconds, end, free_port, poll_until
from tests.hosts.server import REPOSITORY, ServerProcess, clean_environment
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import make_stand_in

TIMEOUT = 60.0
ROUND_TRIP_MS = 100
PEER = REPOSITORY / ".cache" / "runicorn-0.7.2"
REAL = "runicorn"
TUNED = ("-c", "aes128-gcm@openssh.com")
_READY = b"SETTLED"
_Server = TypeVar("_Server", SshServer, ServerProcess)
_QUICK = 0.25  # of the time that a row may take otherwise


class Stage:
    """Everything is in `directory` and ends with `close`."""

    def __init__(
        self, directory: Path, *, quick: bool, seconds: float = math.inf, most_rounds: int | None = None
    ) -> None:
        """`seconds`: after them each row has one round only."""
        self.directory = directory
        self.quick = quick
        self._most_rounds = most_rounds
        self._ends_at = time.monotonic() + seconds
        self._stack = contextlib.ExitStack()
        self._made = 0

    def close(self) -> None:
        self._stack.close()

    def rounds(self, full: int, quick: int) -> int:
        return min(quick if self.quick else full, self._most_rounds or full)

    def amount(self, full: int, quick: int) -> int:
        """Of work in one round."""
        return quick if self.quick else full

    def interleave(
        self,
        contestants: Mapping[str, Callable[[], Measures]],
        full: int,
        quick: int,
        *,
        seconds: float,
        warm_up: bool = False,
    ) -> Table:
        """So many rounds, fewer where they would take longer than `seconds`; `--quick` gives it less."""
        rounds = self.rounds(full, quick)
        left = self._ends_at - time.monotonic()
        allowed = seconds * (_QUICK if self.quick else 1)
        return interleave(
            contestants,
            rounds,
            warm_up=warm_up and not self._most_rounds and left > 0,
            seconds=min(allowed, left),
        )

    def compare(
        self, ways: Mapping[str, Forward], full: int, quick: int, kind: str, *arguments: int, seconds: float
    ) -> Table:
        """The same load over each."""

        def bound(way: Forward) -> Callable[[], Measures]:
            return lambda: way.load(kind, *arguments)

        contestants = {who: bound(way) for who, way in ways.items()}
        return self.interleave(contestants, full, quick, seconds=seconds)

    # --- hosts

    def host(self, **options: str) -> SshServer:
        """A new sshd with a home of its own, that has a stand-in viewer and the real one."""
        directory = self._fresh("host")
        home = directory / "home"
        home.mkdir(mode=0o700)
        environments = home / ".virtualenvs"
        environments.mkdir()
        program = Path(far_end.__file__).read_text()
        prefix = make_stand_in(directory / "stand-in", program)
        (prefix / "bin" / "python3").symlink_to("python")
        next(prefix.glob("lib/*/site-packages/runicorn/__init__.py")).write_text('__version__ = "0.7.2"\n')
        (environments / STAND_IN).symlink_to(prefix)
        if PEER.exists():
            (environments / REAL).symlink_to(PEER)
        # The peer finds the stand-in as the host's own `python3`.
        path = f"{prefix / 'bin'}:{os.environ['PATH']}"
        server = SshServer(
            directory, home=home, options={"MaxStartups": "200", **options}, environment={"PATH": path}
        )
        return self._started(server)

    def long_wire(self, host: SshServer) -> int:
        """-> a port that leads to `host` over a round trip of `ROUND_TRIP_MS`."""
        process = self.process(
            [sys.executable, "-m", "benchmarks.long_wire", str(host.port), str(ROUND_TRIP_MS)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        return int(process.stdout.readline())

    # --- servers

    def our_server(self, *hosts: tuple[SshServer, int], **settings: str) -> Api:
        """A server that knows the keys of `hosts` at these ports."""
        directory = self._fresh("server")
        changed = {f"RUNICORN_REMOTE_{name.upper()}": value for name, value in settings.items()}
        server = ServerProcess(directory, environment={**self._home(directory), **changed})
        server.state_dir.mkdir(mode=0o700)
        lines = [f"[{host.host}]:{port} {key}\n" for host, port in hosts for key in host.host_keys.values()]
        (server.state_dir / "known_hosts").write_text("".join(lines))
        self._started(server)
        return Api(server.port, server.pid)

    def our_tunnel(self, host: SshServer, *, port: int | None = None) -> Forward:
        """The tunnel to a stand-in viewer, by a server of its own."""
        try:
            api = self.our_server((host, port or host.port))
            session = api.start_viewer(credentials(host, port))
        except (Failed, OSError, AssertionError) as error:
            return Broken(error)
        return Forward(session["localPort"], api.pid, session["remotePort"])

    def far_end(self) -> int:
        """-> the port of the server behind the tunnels, where no viewer is it."""
        port = free_port()
        self.process([sys.executable, "-m", "benchmarks.far_end", "--port", str(port)])
        poll_until(lambda: accepts(port), TIMEOUT, "the far end")
        return port

    def peer_server(self, *hosts: SshServer, program: Sequence[str] = ("-m", "runicorn")) -> Api | None:
        """Runicorn's own server; None without it. `program`: what its Python is to run."""
        if not PEER.exists():
            return None
        directory = self._fresh("peer")
        home = self._home(directory)
        state = Path(home["XDG_CONFIG_HOME"]) / "runicorn"
        state.mkdir(parents=True)
        (state / "known_hosts").write_text(
            "".join(f"{line}\n" for host in hosts for line in host.known_hosts_lines())
        )
        port = free_port()
        python = str(PEER / "bin" / "python")
        viewer = [*program, "viewer", "--storage", str(directory), "--port", str(port)]
        process = self.process(
            [python, *viewer], environment=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        api = Api(port, process.pid)
        poll_until(lambda: answers(port), 30, f"Runicorn at port {port}")
        return api

    # --- ssh

    def ssh(self, host: SshServer, *more: str, port: int | None = None) -> list[str]:
        """The beginning of a command line; what follows is options, the host's name `host`, a command."""
        known = host.directory / f"known_hosts_{port or host.port}"
        known.write_text(
            "".join(f"[{host.host}]:{port or host.port} {key}\n" for key in host.host_keys.values())
        )
        options = {
            "HostName": host.host,
            "Port": str(port or host.port),
            "User": host.username,
            "IdentityFile": str(host.client_key),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            "ExitOnForwardFailure": "yes",
        }
        return ["ssh", "-F", "none", *(f"-o{name}={value}" for name, value in options.items()), *more]

    def forward(
        self,
        host: SshServer,
        remote_port: int,
        *,
        tuned: bool = False,
        port: int | None = None,
    ) -> Forward:
        """`ssh -L` as people run it, or tuned: AES-GCM, and one command that runs as long as it does."""
        local = free_port()
        lead = f"{local}:127.0.0.1:{remote_port}"
        if tuned:
            command = [
                *self.ssh(host, *TUNED, port=port),
                "-L",
                lead,
                "host",
                f"echo {_READY.decode()}; exec cat",
            ]
            process = self.process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        else:
            process = self.process([*self.ssh(host, port=port), "-N", "-L", lead, "host"])
        try:
            if tuned:
                _wait_until_ready(process)
            poll_until(lambda: process.poll() is not None or accepts(local), 30, "ssh -L")
            if process.poll() is not None:
                raise Failed(f"ssh -L ended with status {process.returncode}")
        except Failed as error:
            return Broken(error)
        return Forward(local, process.pid, remote_port)

    def master(self, host: SshServer, *, port: int | None = None) -> list[str]:
        """A warm connection; -> the beginning of a command line that uses it."""
        control = f"/tmp/rr-bench-{os.getpid()}-{self._made}"  # short, as a socket's path must be
        self._made += 1
        command = self.ssh(host, "-S", control, port=port)
        process = self.process(
            [*command, "-M", "host", f"echo {_READY.decode()}; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        _wait_until_ready(process)
        return command

    # --- processes

    def process(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**clean_environment(), **(environment or {})},
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **more},
        )
        self._stack.callback(end, process)
        return process

    def _started(self, server: _Server) -> _Server:
        """Those of the tests end a test that they cannot serve; here they have failed."""
        try:
            return self._stack.enter_context(server)
        except (pytest.fail.Exception, pytest.skip.Exception) as error:
            raise Failed(str(error)) from error

    def _fresh(self, kind: str) -> Path:
        self._made += 1
        directory = self.directory / f"{kind}-{self._made}"
        directory.mkdir(mode=0o700)
        return directory

    @staticmethod
    def _home(directory: Path) -> dict[str, str]:
        home = directory / "own-home"
        home.mkdir(mode=0o700)
        return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "SSH_AUTH_SOCK": ""}


class Forward:
    """A port that leads to the far end, and the process that carries it."""

    def __init__(self, port: int, pid: int | None, far: int = 0) -> None:
        self.port = port
        self.pid = pid
        self.far = far  # the port it leads to

    def load(self, kind: str, *arguments: int, module: str = "load") -> Measures:
        """Run `python -m benchmarks.MODULE KIND PORT …`. -> what it says, and the tunnel's `cpu` seconds."""
        command = [sys.executable, "-m", f"benchmarks.{module}", kind, str(self.port), *map(str, arguments)]
        before = cpu_seconds(self.pid)
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        if done.returncode:
            raise Failed(f"{kind}: {done.stderr.strip()[-500:]}")
        measures: dict[str, float] = json.loads(done.stdout)
        measures["cpu"] = cpu_seconds(self.pid) - before
        return measures


class Broken(Forward):
    """One that could not be made."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0, None)
        self._error = error

    def load(self, kind: str, *arguments: int, module: str = "load") -> Measures:
        raise self._error


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != _READY:
        raise Failed("ssh did not log in")
