"""A GPU host with an environment and runs, and a server whose user has nothing but a key for it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.demo import sample_storage
from tests.hosts.server import SERVE, ServerProcess, clean_environment
from tests.hosts.sshd import SshServer

# The names the pages use.
ENVIRONMENT = "experiments"
STORAGE = "~/runicorn_data"
KEY = "~/.ssh/id_ed25519"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("host")) as host:
        environments = host.home / ".virtualenvs"
        environments.mkdir()
        (environments / ENVIRONMENT).symlink_to(sys.prefix)
        storage = host.home / "runicorn_data"
        storage.mkdir()
        sample_storage.create(storage, {**clean_environment(), "HOME": str(host.home)})
        yield host


@pytest.fixture
def home(tmp_path: Path, host: SshServer) -> Path:
    """Of the person who follows a page: the key that opens `host` is where ssh would look for it."""
    ssh = tmp_path / ".ssh"
    ssh.mkdir(mode=0o700)
    shutil.copy(host.client_key, ssh / "id_ed25519")
    return tmp_path


@pytest.fixture
def server(home: Path) -> Iterator[ServerProcess]:
    """As `serve` starts it: its state is where it is by default."""
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": "", "SSH_AUTH_SOCK": ""}
    with ServerProcess(home, command=SERVE, environment=environment) as server:
        yield server
