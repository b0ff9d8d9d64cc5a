"""One server, one host, one user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.user import RemoteAccount, User
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    directory = tmp_path / "host"
    directory.mkdir()
    with SshServer(directory) as server:
        yield server


@pytest.fixture
def account(sshd: SshServer) -> RemoteAccount:
    """The account of `sshd` that `user` logs in to."""
    return RemoteAccount(sshd.home)


@pytest.fixture
def server_environment() -> dict[str, str]:
    """Settings of `server`; a test module that needs others overrides this."""
    return {}


@pytest.fixture
def server(tmp_path: Path, server_environment: dict[str, str]) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, environment=server_environment) as server:
        yield server


@pytest.fixture
def user(server: ServerProcess, sshd: SshServer, account: RemoteAccount) -> User:
    """Somebody whose key opens `sshd`; its host key is accepted already."""
    user = User(
        server,
        {
            "host": sshd.host,
            "port": sshd.port,
            "username": sshd.username,
            "private_key_path": str(sshd.client_key),
        },
    )
    user.accept_host_key()
    return user
