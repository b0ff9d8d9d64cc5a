"""Logging in to a real sshd, without the API around it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def known_hosts(settings: Settings) -> KnownHostsFile:
    """Empty at first."""
    return KnownHostsFile(settings.resolved_state_dir() / "known_hosts")


@pytest.fixture
def connector(settings: Settings, known_hosts: KnownHostsFile) -> Connector:
    return Connector(settings, known_hosts)


@pytest.fixture
def target(sshd: SshServer, known_hosts: KnownHostsFile) -> Target:
    """The account on `sshd`, whose key is confirmed."""
    return trusted(sshd, known_hosts)


@pytest.fixture
def credentials(sshd: SshServer) -> Credentials:
    return Credentials(private_key_path=str(sshd.client_key), use_agent=False)


@pytest.fixture
def remote(connector: Connector, target: Target, credentials: Credentials) -> Iterator[RemoteHost]:
    """A connection."""
    remote = connector(target, credentials)
    yield remote
    remote.close()


def write_known_hosts(known_hosts: KnownHostsFile, *lines: str) -> Path:
    known_hosts.path.parent.mkdir(parents=True, exist_ok=True)
    known_hosts.path.write_text("".join(f"{line}\n" for line in lines))
    return known_hosts.path


def trusted(server: SshServer, known_hosts: KnownHostsFile) -> Target:
    write_known_hosts(known_hosts, *server.known_hosts_lines())
    return Target(server.host, server.port, server.username)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real ssh-agent, empty."""
    program = shutil.which("ssh-agent")
    if program is None:
        pytest.skip("ssh-agent is not installed")
    # A socket's path may not be long.
    directory = subprocess.run(
        ["mktemp", "-d"], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
    path = f"{directory}/agent"
    process = subprocess.Popen([program, "-D", "-a", path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # it listens now
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    yield path
    process.terminate()
    process.communicate(timeout=10)
    shutil.rmtree(directory)
