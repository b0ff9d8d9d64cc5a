"""A server, a host it logs in to, and a client of each kind's own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.client import HostKeyConfirmationRequired, RunicornRemoteClient, RunicornRemoteError
from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import RAISES, SERVES, SLEEPS, make_stand_in

# The environment that has the runicorn installed beside these tests.
ENVIRONMENT = "experiments"


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("server")
    environment = {
        "HOME": str(directory),
        "SSH_AUTH_SOCK": "",
        "RUNICORN_REMOTE_CONNECT_TIMEOUT": "5",
        "RUNICORN_REMOTE_HEARTBEAT_INTERVAL": "0.3",
        # A viewer that crashes is to stay an error.
        "RUNICORN_REMOTE_MAX_RESTARTS": "0",
    }
    with ServerProcess(directory, environment=environment) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RunicornRemoteClient]:
    """Of a server that knows nobody; what a test leaves there is taken back."""
    with RunicornRemoteClient(server.url) as client:
        yield client
    with RunicornRemoteClient(server.url) as again:
        clean_up(again)


@pytest.fixture
def account(host: SshServer) -> dict[str, Any]:
    """Where and who, without anything that proves it."""
    return {"host": host.host, "port": host.port, "username": host.username}


@pytest.fixture
def credentials(account: dict[str, Any], host: SshServer) -> dict[str, Any]:
    return {**account, "private_key_path": str(host.client_key)}


@pytest.fixture
def trusting(client: RunicornRemoteClient, host: SshServer) -> RunicornRemoteClient:
    """The host's key is accepted already."""
    accept(client, host)
    return client


def accept(client: RunicornRemoteClient, host: SshServer | EmbeddedHost) -> None:
    """Have the server see the host's key, and trust it."""
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        client.connect(host.host, host.username, host.port, use_agent=False)
    assert caught.value.host_key.public_key in host.host_keys.values()
    caught.value.accept()


def believe(server: ServerProcess, host: SshServer, public_key: str) -> None:
    """Have the server trust a key that the host does not have, as if it had been its key before."""
    with (server.state_dir / "known_hosts").open("a") as stream:
        stream.write(f"[{host.host}]:{host.port} {public_key}\n")


def fingerprint(public_key: str) -> str:
    digest = hashlib.sha256(base64.b64decode(public_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def clean_up(client: RunicornRemoteClient) -> None:
    for session in client.list_viewer_sessions():
        with contextlib.suppress(RunicornRemoteError):
            client.stop_viewer(session_id=session["sessionId"])
    for held in client.list_sessions():
        client.disconnect(host=held["host"], port=held["port"], username=held["username"])
    for entry in client.list_known_hosts():
        client.remove_known_host(host=entry["host"], port=entry["port"], key_type=entry["key_type"])
    client.save_connections([])


def encrypted_key(path: Path, passphrase: str) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", path], check=True, timeout=30
    )
    return path
