"""Logging in: the host's key first, and nothing left behind when it fails."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
from pathlib import Path

import pytest

from runicorn_remote.errors import (
    AuthenticationFailed,
    HostKeyConfirmationRequired,
    HostKeyProblem,
    HostKeyRevoked,
    KeyUnusable,
    NoCommonAlgorithm,
    RemoteError,
    StateError,
    Unreachable,
)
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import trusted, write_known_hosts
from tests.ssh.tunnel_kit import TcpServer, swallow, wait_until

pytestmark = pytest.mark.sshd


def other_key(directory: Path, kind: str = "ed25519") -> str:
    """A public key of nobody, `type base64`."""
    path = directory / f"other-{kind}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True, timeout=30)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def asked(connector: Connector, target: Target, credentials: Credentials) -> HostKeyProblem:
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        connector(target, credentials)
    return caught.value.problem


def logs_in(connector: Connector, target: Target, credentials: Credentials) -> bool:
    remote = connector(target, credentials)
    try:
        return remote.run_script("echo hello", timeout=10).stdout == b"hello\n"
    finally:
        remote.close()


# --- the key of the host


def test_a_key_that_nobody_confirmed(sshd: SshServer, connector: Connector, credentials: Credentials) -> None:
    target = Target(sshd.host, sshd.port, sshd.username)
    problem = asked(connector, target, credentials)
    assert (problem.reason, problem.expected_public_key) == ("unknown", None)
    assert problem.expected_fingerprint_sha256 is None
    assert (problem.host, problem.port) == (sshd.host, sshd.port)
    assert problem.known_hosts_host == f"[{sshd.host}]:{sshd.port}"
    assert problem.public_key == sshd.host_keys["ssh-ed25519"]


def test_a_key_that_changed(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    expected = other_key(tmp_path)
    write_known_hosts(known_hosts, f"[{sshd.host}]:{sshd.port} {expected}")
    problem = asked(connector, Target(sshd.host, sshd.port, sshd.username), credentials)
    assert (problem.reason, problem.expected_public_key) == ("changed", expected)
    assert problem.public_key == sshd.host_keys["ssh-ed25519"]


@pytest.mark.parametrize(
    "pattern",
    ["[{host}]:{port}", "*", "[{host}]:*", "[127.0.0.?]:{port}", "other,[{host}]:{port}", "!other,*"],
)
def test_patterns_that_are_about_the_host(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    pattern: str,
) -> None:
    name = pattern.format(host=sshd.host, port=sshd.port)
    write_known_hosts(
        known_hosts, "# a comment", "a line nobody understands", f"{name} {sshd.host_keys['ssh-ed25519']}"
    )
    assert logs_in(connector, Target(sshd.host, sshd.port, sshd.username), credentials)


@pytest.mark.parametrize("pattern", ["{host}", "[{host}]:1", "!*,*", "*,![{host}]:{port}", "other"])
def test_patterns_that_are_not(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    pattern: str,
) -> None:
    name = pattern.format(host=sshd.host, port=sshd.port)
    write_known_hosts(known_hosts, f"{name} {sshd.host_keys['ssh-ed25519']}")
    problem = asked(connector, Target(sshd.host, sshd.port, sshd.username), credentials)
    assert problem.reason == "unknown"


def test_a_hashed_name(
    sshd: SshServer, known_hosts: KnownHostsFile, connector: Connector, credentials: Credentials
) -> None:
    target = trusted(sshd, known_hosts)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known_hosts.path], check=True, timeout=30)
    assert sshd.host not in known_hosts.path.read_text()
    assert logs_in(connector, target, credentials)


def test_a_revoked_key(
    sshd: SshServer, known_hosts: KnownHostsFile, connector: Connector, credentials: Credentials
) -> None:
    key = sshd.host_keys["ssh-ed25519"]
    write_known_hosts(known_hosts, *sshd.known_hosts_lines(), f"@revoked * {key}")
    with pytest.raises(HostKeyRevoked):
        connector(Target(sshd.host, sshd.port, sshd.username), credentials)


def test_several_keys_of_one_type(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    other = f"[{sshd.host}]:{sshd.port} {other_key(tmp_path)}"
    write_known_hosts(known_hosts, other, *sshd.known_hosts_lines())
    assert logs_in(connector, Target(sshd.host, sshd.port, sshd.username), credentials)


def test_a_file_that_cannot_be_read_is_no_empty_file(
    sshd: SshServer, known_hosts: KnownHostsFile, connector: Connector, credentials: Credentials
) -> None:
    known_hosts.path.mkdir(parents=True)
    with pytest.raises(StateError):
        connector(Target(sshd.host, sshd.port, sshd.username), credentials)


@pytest.fixture(scope="module")
def several_keys(tmp_path_factory: pytest.TempPathFactory) -> SshServer:
    with SshServer(tmp_path_factory.mktemp("several"), host_key_types=("ed25519", "ecdsa", "rsa")) as server:
        yield server


@pytest.mark.parametrize("stored", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_the_stored_type_is_asked_for(
    several_keys: SshServer, known_hosts: KnownHostsFile, connector: Connector, stored: str
) -> None:
    server = several_keys
    write_known_hosts(known_hosts, f"[{server.host}]:{server.port} {server.host_keys[stored]}")
    credentials = Credentials(private_key_path=str(server.client_key))
    assert logs_in(connector, Target(server.host, server.port, server.username), credentials)


def test_a_type_that_is_new_beside_a_stored_one_is_a_change(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    """The host has no key of the stored type any more."""
    expected = other_key(tmp_path, "ecdsa")
    write_known_hosts(known_hosts, f"[{sshd.host}]:{sshd.port} {expected}")
    problem = asked(connector, Target(sshd.host, sshd.port, sshd.username), credentials)
    assert (problem.reason, problem.key_type) == ("changed", "ssh-ed25519")
    assert problem.expected_public_key == expected


def test_an_sshd_that_has_no_algorithm_in_common_with_us(
    tmp_path: Path, known_hosts: KnownHostsFile, connector: Connector
) -> None:
    with SshServer(tmp_path, options={"Ciphers": "chacha20-poly1305@openssh.com"}) as server:
        target = trusted(server, known_hosts)
        with pytest.raises(NoCommonAlgorithm, match="No algorithm in common"):
            connector(target, Credentials(private_key_path=str(server.client_key)))


# --- one handshake, one deadline


def test_a_key_that_is_unusable_is_refused_before_anything_is_sent(connector: Connector) -> None:
    accepted: list[int] = []
    with TcpServer(lambda sock: accepted.append(1)) as server, pytest.raises(KeyUnusable):
        connector(Target("127.0.0.1", server.port, "me"), Credentials(private_key="not a key"))
    assert accepted == []


def test_a_name_with_several_addresses_is_tried_to_the_end(
    sshd: SshServer, known_hosts: KnownHostsFile, connector: Connector, credentials: Credentials
) -> None:
    """`localhost` is ::1 first, where this sshd does not listen."""
    key = sshd.host_keys["ssh-ed25519"]
    write_known_hosts(known_hosts, f"[localhost]:{sshd.port} {key}")
    assert logs_in(connector, Target("localhost", sshd.port, sshd.username), credentials)


def test_a_host_that_accepts_and_says_nothing(tmp_path: Path, known_hosts: KnownHostsFile) -> None:
    connector = Connector(Settings(state_dir=str(tmp_path), banner_timeout=0.2), known_hosts)
    with TcpServer(swallow) as server, pytest.raises(Unreachable) as caught:
        connector(Target("127.0.0.1", server.port, "me"), Credentials(password="x"))
    assert caught.value.code == "NO_SSH_BANNER"


# --- nothing is left


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_hundred_failed_logins_leave_nothing(
    sshd: SshServer,
    known_hosts: KnownHostsFile,
    connector: Connector,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    target = trusted(sshd, known_hosts)
    stranger = KnownHostsFile(tmp_path / "empty")
    unknown = Connector(Settings(state_dir=str(tmp_path), banner_timeout=0.1), stranger)
    wrong = Credentials(private_key=(tmp_path / "other-ed25519").read_text() if other_key(tmp_path) else None)

    def hangs_up(sock: object) -> None:
        """Closed at once."""

    with TcpServer(swallow) as silent, TcpServer(hangs_up) as rude:
        logins = [
            lambda: connector(target, wrong),
            lambda: unknown(target, credentials),
            lambda: connector(Target(target.host, target.port, "nobody-here"), credentials),
            lambda: unknown(Target(target.host, silent.port, "me"), credentials),
            lambda: unknown(Target(target.host, rude.port, "me"), credentials),
        ]

        def fail(times: int) -> None:
            for number in range(times):
                with pytest.raises(RemoteError):
                    logins[number % len(logins)]()
            gc.collect()

        fail(len(logins))
        wait_until(lambda: transports() == 0, "the transports end")
        files, threads = open_files(), threading.active_count()
        fail(100)
        wait_until(lambda: transports() == 0, "the transports end")
        wait_until(lambda: threading.active_count() <= threads, "no thread is left")
        wait_until(lambda: open_files() <= files, "no file is left")


def transports() -> int:
    return sum(thread.name.startswith(("ssh-transport", "Thread-")) for thread in threading.enumerate())


def test_a_login_that_works_leaves_nothing_once_it_is_closed(
    sshd: SshServer, connector: Connector, target: Target, credentials: Credentials
) -> None:
    assert logs_in(connector, target, credentials)
    gc.collect()
    files, threads = open_files(), threading.active_count()
    for _ in range(5):
        assert logs_in(connector, target, credentials)
    gc.collect()
    wait_until(lambda: threading.active_count() <= threads, "no thread is left")
    wait_until(lambda: open_files() <= files, "no file is left")


def test_nothing_of_a_secret_stays_in_a_connection(
    connector: Connector, target: Target, sshd: SshServer
) -> None:
    remote = connector(target, Credentials(private_key=sshd.client_key.read_text(), password="c4n4ry"))
    try:
        assert "c4n4ry" not in repr(vars(remote._connection))
        assert remote._connection.connect_kwargs == {}
    finally:
        remote.close()


def test_a_wrong_key_ends_as_a_login_that_failed(
    connector: Connector, target: Target, tmp_path: Path
) -> None:
    other_key(tmp_path)
    with pytest.raises(AuthenticationFailed) as caught:
        connector(target, Credentials(private_key_path=str(tmp_path / "other-ed25519")))
    assert str(target) in str(caught.value)
    assert caught.value.hint
