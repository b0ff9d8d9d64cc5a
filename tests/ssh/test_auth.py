"""What is tried at a login: given things alone, else the agent and ssh's default keys."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.demo.ssh_host import EmbeddedHost
from runicorn_remote.errors import (
    HostKeyConfirmationRequired,
    PassphraseRequired,
    PassphraseWrong,
)
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import write_known_hosts
from tests.ssh.key_kit import add_to_agent, fails, log_in, new_key, offered, public

PASSPHRASE = "open sesame"


# --- keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`, `encrypted`, one of each kind: all let in; `stranger` is not."""
    directory = tmp_path_factory.mktemp("keys")
    for kind in ("ed25519", "ecdsa", "rsa"):
        new_key(directory / kind, kind=kind)
    new_key(directory / "encrypted", PASSPHRASE)
    new_key(directory / "stranger")
    return directory


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[SshServer]:
    allowed = [public(keys / name) for name in ("ed25519", "ecdsa", "rsa", "encrypted")]
    directory = tmp_path_factory.mktemp("sshd")
    with SshServer(directory, authorized_keys=allowed, options={"LogLevel": "VERBOSE"}) as server:
        yield server


@pytest.mark.sshd
@pytest.mark.parametrize("name", ["ed25519", "ecdsa", "rsa"])
def test_a_key_by_path_and_by_text(connector: Connector, target: Target, keys: Path, name: str) -> None:
    log_in(connector, target, Credentials(private_key_path=str(keys / name)))
    log_in(connector, target, Credentials(private_key=(keys / name).read_text()))


@pytest.mark.sshd
def test_an_encrypted_key(connector: Connector, target: Target, keys: Path) -> None:
    path = str(keys / "encrypted")
    log_in(connector, target, Credentials(private_key_path=path, passphrase=PASSPHRASE))
    text = (keys / "encrypted").read_text()
    log_in(connector, target, Credentials(private_key=text, passphrase=PASSPHRASE))
    with pytest.raises(PassphraseRequired):
        connector(target, Credentials(private_key_path=path))
    with pytest.raises(PassphraseWrong):
        connector(target, Credentials(private_key_path=path, passphrase="a wrong guess"))


@pytest.mark.sshd
def test_the_password_is_no_passphrase(connector: Connector, target: Target, keys: Path) -> None:
    with pytest.raises(PassphraseRequired):
        connector(target, Credentials(private_key_path=str(keys / "encrypted"), password=PASSPHRASE))


@pytest.mark.sshd
def test_a_wrong_key_is_offered_once_and_nothing_else_is(
    connector: Connector, target: Target, keys: Path, sshd: SshServer, private_home: Path
) -> None:
    put_default_key(private_home, keys / "ed25519")
    before = sshd.log()
    fails(connector, target, Credentials(private_key_path=str(keys / "stranger")))
    assert len(offered(sshd, before)) <= 1
    assert "Accepted" not in sshd.log()[len(before) :]


# --- the default keys


def put_default_key(home: Path, key: Path, name: str = "id_ed25519") -> None:
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key, home / ".ssh" / name)


@pytest.mark.sshd
@pytest.mark.parametrize(
    ("kind", "name"), [("ed25519", "id_ed25519"), ("ecdsa", "id_ecdsa"), ("rsa", "id_rsa")]
)
def test_a_default_key(
    connector: Connector, target: Target, keys: Path, private_home: Path, kind: str, name: str
) -> None:
    put_default_key(private_home, keys / kind, name)
    log_in(connector, target, Credentials())
    assert "nothing to log in" in fails(connector, target, Credentials(use_agent=False))


@pytest.mark.sshd
def test_default_keys_that_cannot_be_used_are_passed_over(
    connector: Connector, target: Target, keys: Path, private_home: Path
) -> None:
    put_default_key(private_home, keys / "encrypted", "id_ed25519")
    (private_home / ".ssh" / "id_ecdsa").write_text("not a key")
    put_default_key(private_home, keys / "rsa", "id_rsa")
    log_in(connector, target, Credentials())


@pytest.mark.sshd
def test_without_any_key(connector: Connector, target: Target) -> None:
    assert "nothing to log in" in fails(connector, target, Credentials())


@pytest.mark.sshd
def test_a_wrong_password_fails_although_a_default_key_would_do(
    connector: Connector, target: Target, keys: Path, private_home: Path
) -> None:
    put_default_key(private_home, keys / "ed25519")
    said = fails(connector, target, Credentials(password="c4n4ry"))
    assert "c4n4ry" not in said
    assert "it accepts publickey" in said


# --- the agent


@pytest.mark.sshd
def test_an_agent_with_several_keys(
    connector: Connector, target: Target, keys: Path, agent: str, sshd: SshServer
) -> None:
    assert "nothing to log in" in fails(connector, target, Credentials())
    add_to_agent(agent, keys / "stranger")
    fails(connector, target, Credentials())
    add_to_agent(agent, keys / "rsa")
    before = sshd.log()
    log_in(connector, target, Credentials())
    shown = offered(sshd, before)
    assert len(shown) == len(set(shown)) or shown[-1] == shown[-2], "no key is offered twice in vain"
    assert "nothing to log in" in fails(connector, target, Credentials(use_agent=False))


@pytest.mark.sshd
def test_what_is_in_the_agent_is_not_offered_again_from_the_files(
    connector: Connector, target: Target, keys: Path, agent: str, private_home: Path, sshd: SshServer
) -> None:
    add_to_agent(agent, keys / "stranger")
    put_default_key(private_home, keys / "stranger")
    before = sshd.log()
    fails(connector, target, Credentials())
    assert sshd.log()[len(before) :].count("Failed publickey") <= 1


@pytest.mark.sshd
def test_an_encrypted_key_whose_key_is_in_the_agent(
    connector: Connector, target: Target, keys: Path, agent: str
) -> None:
    credentials = Credentials(private_key_path=str(keys / "encrypted"))
    add_to_agent(agent, keys / "rsa")
    with pytest.raises(PassphraseRequired):
        connector(target, credentials)
    add_to_agent(agent, keys / "encrypted", passphrase=PASSPHRASE)
    log_in(connector, target, credentials)
    with pytest.raises(PassphraseRequired):
        connector(target, Credentials(private_key_path=str(keys / "encrypted"), use_agent=False))


@pytest.mark.sshd
def test_a_wrong_secret_fails_although_the_agent_would_do(
    connector: Connector, target: Target, keys: Path, agent: str
) -> None:
    add_to_agent(agent, keys / "ed25519")
    log_in(connector, target, Credentials())
    fails(connector, target, Credentials(password="wrong"))
    fails(connector, target, Credentials(private_key_path=str(keys / "stranger")))


@pytest.mark.sshd
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # paramiko drops it on the floor
def test_an_agent_that_is_gone_does_no_harm(
    connector: Connector, target: Target, keys: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_default_key(private_home, keys / "ed25519")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(private_home / "nothing"))
    log_in(connector, target, Credentials())


@pytest.mark.sshd
def test_an_agent_that_never_answers(
    connector: Connector,
    target: Target,
    keys: Path,
    private_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_default_key(private_home, keys / "ed25519")
    monkeypatch.setattr("runicorn_remote.ssh.agent._TIMEOUT", 0.3)
    path = f"/tmp/agent-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        log_in(connector, target, Credentials())
    finally:
        listener.close()
        os.unlink(path)


# --- passwords


@pytest.fixture
def embedded(tmp_path: Path, known_hosts: KnownHostsFile) -> Iterator[EmbeddedHost]:
    home = tmp_path / "embedded"
    home.mkdir()
    with EmbeddedHost(home, password="correct horse") as host:
        write_known_hosts(known_hosts, *host.known_hosts_lines())
        yield host


def account(host: EmbeddedHost) -> Target:
    return Target(host.host, host.port, host.username)


def test_a_password(connector: Connector, embedded: EmbeddedHost) -> None:
    log_in(connector, account(embedded), Credentials(password="correct horse"))
    log_in(connector, account(embedded), Credentials(password="correct horse", use_agent=False))


def test_a_wrong_password(connector: Connector, embedded: EmbeddedHost) -> None:
    for password in ("correct horsE", " correct horse", "x" * 4096, "pässwörd"):
        said = fails(connector, account(embedded), Credentials(password=password))
        assert password not in said


def test_a_key_that_is_not_let_in_and_a_password_that_is(
    connector: Connector, embedded: EmbeddedHost, tmp_path: Path
) -> None:
    key = new_key(tmp_path / "stranger").read_text()
    log_in(connector, account(embedded), Credentials(private_key=key, password="correct horse"))
    fails(connector, account(embedded), Credentials(private_key=key, password="wrong"))
    log_in(connector, account(embedded), Credentials(private_key=embedded.client_key_text, password="wrong"))


def test_nothing_is_read_from_the_servers_own_terminal(
    connector: Connector, embedded: EmbeddedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prompt(*args: object) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", prompt)
    monkeypatch.setattr("getpass.getpass", prompt)
    fails(connector, account(embedded), Credentials())
    fails(connector, account(embedded), Credentials(password="wrong"))


@pytest.mark.sshd
def test_nothing_is_tried_at_a_host_that_is_not_known(
    settings: Settings, target: Target, sshd: SshServer, keys: Path, tmp_path: Path
) -> None:
    connector = Connector(settings, KnownHostsFile(tmp_path / "empty"))
    before = sshd.log()
    with pytest.raises(HostKeyConfirmationRequired):
        connector(target, Credentials(private_key_path=str(keys / "ed25519"), password="c4n4ry"))
    said = sshd.log()[len(before) :]
    assert "publickey" not in said
    assert "password" not in said
