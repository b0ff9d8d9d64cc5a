"""What the rows need, started once: hosts, our server, `ssh` and its connections, a way to ask for things."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import far_end
from benchmarks.figures import Measures
from tests.hosts.server import REPOSITORY, ServerProcess, clean_environment
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import make_stand_in

TIMEOUT = 60.0
ROUND_TRIP_MS = 100
PEER = REPOSITORY / ".cache" / "runicorn-0.7.2"
STAND_IN = "far-end"
REAL = "runicorn"
TUNED = ("-c", "aes128-gcm@openssh.com")
_READY = "SETTLED"


class Failed(Exception):
    """A contestant did not do what is measured."""


class Stage:
    """Everything is in `directory` and ends with `close`."""

    def __init__(self, directory: Path, *, quick: bool) -> None:
        self.directory = directory
        self.quick = quick
        self._stack = contextlib.ExitStack()
        self._made = 0

    def close(self) -> None:
        self._stack.close()

    def rounds(self, full: int, quick: int) -> int:
        return quick if self.quick else full

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
        return self._stack.enter_context(server)

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
        self._stack.enter_context(server)
        return Api(server.port, server.pid)

    def peer_server(self, *hosts: SshServer) -> Api | None:
        """Runicorn's own server; None without it."""
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
        viewer = ["-m", "runicorn", "viewer", "--storage", str(directory), "--port", str(port)]
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
            command = [*self.ssh(host, *TUNED, port=port), "-L", lead, "host", f"echo {_READY}; exec cat"]
            process = self.process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
        else:
            process = self.process([*self.ssh(host, port=port), "-N", "-L", lead, "host"])
        poll_until(lambda: accepts(local), 30, "ssh -L")
        return Forward(local, process.pid)

    def master(self, host: SshServer, *, port: int | None = None) -> list[str]:
        """A warm connection; -> the beginning of a command line that uses it."""
        control = f"/tmp/rr-bench-{os.getpid()}-{self._made}"  # short, as a socket's path must be
        self._made += 1
        command = self.ssh(host, "-S", control, port=port)
        process = self.process(
            [*command, "-M", "host", f"echo {_READY}; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
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
        self._stack.callback(_end, process)
        return process

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

    def __init__(self, port: int, pid: int | None) -> None:
        self.port = port
        self.pid = pid

    def load(self, kind: str, *arguments: int) -> Measures:
        command = [sys.executable, "-m", "benchmarks.load", kind, str(self.port), *map(str, arguments)]
        before = cpu_seconds(self.pid)
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=TIMEOUT * 2, check=False
        )
        if done.returncode:
            raise Failed(f"{kind}: {done.stderr.strip()[-500:]}")
        measures: dict[str, float] = json.loads(done.stdout)
        measures["cpu"] = cpu_seconds(self.pid) - before
        return measures


class Api:
    """A server with the Remote API, and its process."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def request(self, method: str, path: str, body: Any = None, timeout: float = 120.0) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, route: str, **query: Any) -> Any:
        return self._done("GET", f"/api/remote/{route}" + (f"?{urlencode(query)}" if query else ""))

    def post(self, route: str, **body: Any) -> Any:
        return self._done("POST", f"/api/remote/{route}", body)

    def start_viewer(self, credentials: Mapping[str, Any], environment: str = STAND_IN) -> dict[str, Any]:
        session: dict[str, Any] = self.post(
            "viewer/start", **credentials, remote_root="~/storage", conda_env=environment
        )["session"]
        return session

    def _done(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.request(method, path, body)
        if status != 200:
            raise Failed(f"{method} {path}: {status} {answer}")
        return answer


def credentials(host: SshServer, port: int | None = None) -> dict[str, Any]:
    return {
        "host": host.host,
        "port": port or host.port,
        "username": host.username,
        "private_key_path": str(host.client_key),
        "use_agent": False,
    }


def connection_id(host: SshServer, port: int | None = None) -> str:
    return f"{host.username}@{host.host}:{port or host.port}"


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process so far; 0 without one."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """What ends with the process: its private pages, and its share of shared ones."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def closed_connections() -> int:
    """How many the kernel still keeps, in TIME_WAIT."""
    words = Path("/proc/net/sockstat").read_text().split()
    return int(words[words.index("tw") + 1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(port: int, path: str = "/api/health") -> bool:
    """Whether it answers 200 to one request on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def poll_until(condition: Callable[[], bool], timeout: float, what: str, every: float = 0.01) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: nothing within {timeout:g} s")
        select.select([], [], [], every)


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the time of the block; its group ends with it."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
