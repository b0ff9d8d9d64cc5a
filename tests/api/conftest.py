"""A user whose account is on a real sshd, for the tests of the routes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from runicorn_remote.services import Services
from tests.api.user import User
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import DEAF, RAISES, SERVES, SLEEPS, make_stand_in

_STAND_INS = {"serves": SERVES, "deaf": DEAF, "sleeps": SLEEPS, "raises": RAISES}


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A server whose account has the environments `r72` (the real runicorn) and those of `_STAND_INS`."""
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        environments = server.home / ".virtualenvs"
        environments.mkdir()
        (environments / "r72").symlink_to(sys.prefix)
        for name, program in _STAND_INS.items():
            make_stand_in(environments / name, program)
        yield server


@pytest.fixture
def stranger(client: FlaskClient, sshd: SshServer) -> User:
    """Nobody has confirmed the host's key yet."""
    return User(client, sshd)


@pytest.fixture
def user(stranger: User, services: Services) -> User:
    """The host's key is confirmed."""
    trust(services.known_hosts.file.path, stranger.server)
    return stranger


@pytest.fixture
def connected(user: User) -> User:
    answer = user.connect()
    assert answer.status_code == 200, answer.get_json()
    return user


def trust(path: Path, server: SshServer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write("\n".join(server.known_hosts_lines()) + "\n")
