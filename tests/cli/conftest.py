"""A server process, hosts to log in to, and the command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.cli import main
from runicorn_remote.client import RunicornRemoteClient
from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.client.conftest import accept, clean_up
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import RAISES, SERVES, SLEEPS, make_stand_in

# The environment that has the runicorn installed beside these tests.
ENVIRONMENT = "experiments"


@dataclass(frozen=True)
class Result:
    """What one run of the command line left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout as the one JSON document it has to be."""
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server")
    environment = {
        "HOME": str(directory),
        "SSH_AUTH_SOCK": "",
        "RUNICORN_REMOTE_CONNECT_TIMEOUT": "5",
        "RUNICORN_REMOTE_HEARTBEAT_INTERVAL": "0.3",
        # The client verbs' own, which a shell may have set for everything.
        "RUNICORN_REMOTE_URL": "http://127.0.0.1:1",
    }
    with ServerProcess(directory, environment=environment) as server:
        yield server


@pytest.fixture(scope="package")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """With `ENVIRONMENT`, and `serves`, `sleeps` (never listens) and `raises` in place of runicorn."""
    with SshServer(tmp_path_factory.mktemp("host")) as host:
        environments = host.home / ".virtualenvs"
        environments.mkdir()
        (environments / ENVIRONMENT).symlink_to(sys.prefix)
        for name, program in {"serves": SERVES, "sleeps": SLEEPS, "raises": RAISES}.items():
            make_stand_in(environments / name, program)
        (host.home / "storage").mkdir()
        yield host


@pytest.fixture
def embedded_host(tmp_path: Path) -> Iterator[EmbeddedHost]:
    """One that takes a password."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with EmbeddedHost(home) as host:
        yield host


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RunicornRemoteClient]:
    """For looking behind the scenes; what a test leaves at the server is taken back."""
    with RunicornRemoteClient(server.url) as client:
        yield client
        clean_up(client)


@pytest.fixture
def target(host: SshServer, client: RunicornRemoteClient) -> str:
    """As it is typed; the server does not know the host's key."""
    return f"{host.username}@{host.host}:{host.port}"


@pytest.fixture
def identity(host: SshServer) -> tuple[str, str]:
    return "-i", str(host.client_key)


@pytest.fixture
def trusted_target(target: str, host: SshServer, client: RunicornRemoteClient) -> str:
    """The server knows the host's key."""
    accept(client, host)
    return target


@pytest.fixture
def run(server: ServerProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("ls", "--json")`, with nobody at the keyboard."""

    def run(*arguments: str, stdin: str = "") -> Result:
        import io

        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        monkeypatch.setenv("RUNICORN_REMOTE_URL", server.url)
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run
