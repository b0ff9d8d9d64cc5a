"""The journey of a user, on a real host with a real viewer, for every kind of credential."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.e2e.user import ENVIRONMENT, RemoteAccount, User, has_ipv6_loopback, is_refused, skip_or_fail
from tests.hosts import processes
from tests.hosts.server import REPOSITORY, ServerProcess, fetch
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

PASSPHRASE = "correct horse battery staple"


@dataclass
class Login:
    """A host, and what opens it."""

    host: SshServer | EmbeddedHost
    credentials: dict[str, Any]
    server_environment: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def key_file(directory: Path) -> Iterator[Login]:
    with SshServer(directory) as host:
        yield Login(host, {"private_key_path": str(host.client_key)})


@contextlib.contextmanager
def key_text(directory: Path) -> Iterator[Login]:
    with SshServer(directory) as host:
        yield Login(host, {"private_key": host.client_key.read_text()})


@contextlib.contextmanager
def encrypted_key(directory: Path) -> Iterator[Login]:
    key = directory / "encrypted_key"
    run("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", PASSPHRASE, "-f", str(key))
    with SshServer(directory, authorized_keys=[key.with_suffix(".pub").read_text()]) as host:
        yield Login(host, {"private_key_path": str(key), "passphrase": PASSPHRASE})


@contextlib.contextmanager
def password(directory: Path) -> Iterator[Login]:
    home = directory / "home"
    home.mkdir()
    with EmbeddedHost(home) as host:
        yield Login(host, {"password": host.password, "use_agent": False})


@contextlib.contextmanager
def agent(directory: Path) -> Iterator[Login]:
    with SshServer(directory) as host, ssh_agent(directory / "agent", host.client_key) as socket_path:
        yield Login(host, {}, {"SSH_AUTH_SOCK": str(socket_path)})


@contextlib.contextmanager
def ssh_agent(socket_path: Path, key: Path) -> Iterator[Path]:
    """A real agent that holds `key`."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL)
    try:
        until(socket_path.exists, 10, "the agent listens")
        run("ssh-add", "-q", str(key), SSH_AUTH_SOCK=str(socket_path))
        yield socket_path
    finally:
        process.terminate()
        process.wait(10)


def run(*command: str, **environment: str) -> None:
    subprocess.run(command, check=True, timeout=30, env={**os.environ, **environment})


KINDS = [key_file, key_text, encrypted_key, password, agent]


@pytest.mark.sshd
@pytest.mark.viewer
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_journey(tmp_path: Path, kind: Callable[[Path], contextlib.AbstractContextManager[Login]]) -> None:
    directory = tmp_path / "host"
    directory.mkdir()
    with (
        kind(directory) as login,
        ServerProcess(tmp_path, environment=login.server_environment) as server,
    ):
        account = RemoteAccount(login.host.home)
        user = user_of(server, login)
        question = user.accept_host_key()
        assert question["code"] == "HOST_KEY_CONFIRMATION_REQUIRED"
        assert question["host_key"]["reason"] == "unknown"
        assert question["host_key"]["public_key"] in login.host.host_keys.values()

        user.connect()
        look_around(user, account)
        session = user.start_viewer()
        watch(user, account, session)
        user.stop_viewer(session)
        nothing_is_left(user, account, session)
        user.disconnect()
        assert user.get("sessions") == {"sessions": []}
        assert server.stop() == 0
        assert "Traceback" not in server.output()


@pytest.mark.sshd
@pytest.mark.viewer
def test_journey_to_the_oldest_runicorn(user: User, account: RemoteAccount) -> None:
    account.add_environment("old", runicorn_060())
    user.connect()
    configs = user.get("env-configs", connection_id=user.connection_id)["configs"]
    assert configs["old"]["runicornVersion"] == "0.6.0"
    session = user.start_viewer("old")
    watch(user, account, session, version="0.6.0")
    user.stop_viewer(session)
    nothing_is_left(user, account, session)


def user_of(server: ServerProcess, login: Login) -> User:
    host = login.host
    address = {"host": host.host, "port": host.port, "username": host.username}
    return User(server, {**address, **login.credentials})


def look_around(user: User, account: RemoteAccount) -> None:
    """What a user sees before starting a viewer."""
    assert [session["key"] for session in user.get("sessions")["sessions"]] == [user.connection_id]
    environments = user.get("conda-envs", connection_id=user.connection_id)["envs"]
    found = {environment["name"]: environment for environment in environments}
    assert found[ENVIRONMENT]["path"] == f"{account.home}/.virtualenvs/{ENVIRONMENT}/bin/python"
    configs = user.get("env-configs", connection_id=user.connection_id)["configs"]
    assert configs.keys() == found.keys()
    config = user.get("config", connection_id=user.connection_id, conda_env=ENVIRONMENT)
    assert config["runicornVersion"] == configs[ENVIRONMENT]["runicornVersion"] == beside_us()
    assert config["homeDirectory"] == str(account.home)
    assert config["defaultStorageRoot"] == f"{account.home}/runicorn_data"
    assert config["storageRootExists"] is False
    assert is_refused(config["suggestedRemotePort"])


def watch(user: User, account: RemoteAccount, session: dict[str, Any], version: str | None = None) -> None:
    """The viewer, and what the server says of it."""
    port, version = session["localPort"], version or beside_us()
    for address in ("127.0.0.1", "localhost", "[::1]"):
        if address == "[::1]" and not has_ipv6_loopback():
            continue
        page = fetch(f"http://{address}:{port}/")
        assert page.status_code == 200
        assert "<html" in page.text.lower()
        health = fetch(f"http://{address}:{port}/api/health").json()
        assert health["status"] == "ok"
    assert session["runicornVersion"] == version
    assert session["remoteRoot"] == f"{account.home}/storage"
    assert session["url"] == f"http://localhost:{port}"
    listed = user.get(f"viewer/status/{session['sessionId']}")
    assert listed["tunnel"]["bytesIn"] > len(page.text)
    for sessions in (user.viewers(), user.get("status")["viewer_sessions"]):
        (seen,) = sessions
        assert seen["status"] == "running"
        assert {name: seen[name] for name in STABLE} == {name: session[name] for name in STABLE}
    assert processes.is_alive(session["remotePid"])
    assert [directory.name for directory in account.private_directories()] == [session["sessionId"]]


STABLE = ("sessionId", "host", "sshPort", "localPort", "remotePort", "remotePid", "remoteRoot", "url")


def nothing_is_left(user: User, account: RemoteAccount, session: dict[str, Any]) -> None:
    assert user.viewers() == []
    assert user.server.get(f"/api/remote/viewer/status/{session['sessionId']}").status_code == 404
    assert not processes.is_alive(session["remotePid"])
    assert account.private_directories() == []
    assert is_refused(session["remotePort"])
    assert is_refused(session["localPort"])
    if has_ipv6_loopback():
        assert is_refused(session["localPort"], "::1")


def beside_us() -> str:
    from importlib import metadata

    return metadata.version("runicorn")


def runicorn_060() -> Path:
    """A virtual environment with the first runicorn that has a remote mode."""
    prefix = Path(os.environ.get("RUNICORN_060_PREFIX") or REPOSITORY / ".cache/runicorn-0.6.0")
    if not (prefix / "bin/python").exists():
        skip_or_fail(f"there is no virtual environment with runicorn 0.6.0 at {prefix} (make runicorn-0.6.0)")
    return prefix
