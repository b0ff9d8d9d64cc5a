"""A real sshd that has nothing but weak algorithms of one kind, and what becomes of the login."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from runicorn_remote.errors import NoCommonAlgorithm, WeakAlgorithmsOnly
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.algorithms import Lack, lacks
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.transport import TunnelTransport
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import trusted

pytestmark = pytest.mark.sshd

KEX = {"KexAlgorithms": "diffie-hellman-group14-sha1"}
HOST_KEY = {"HostKeyAlgorithms": "ssh-rsa"}
CIPHER = {"Ciphers": "aes128-cbc,3des-cbc"}
MAC = {"MACs": "hmac-sha1"}
SHA1_IS_GONE = int(paramiko.__version__.split(".")[0]) >= 5


def log_in(connector: Connector, server: SshServer, known_hosts: KnownHostsFile) -> None:
    target = trusted(server, known_hosts)
    connector(target, Credentials(private_key=server.client_key.read_text(), use_agent=False)).close()


@pytest.mark.parametrize(
    ("options", "said", "gone"),
    [
        (KEX, ["key exchange: diffie-hellman-group14-sha1"], SHA1_IS_GONE),
        (HOST_KEY, ["host key: ssh-rsa"], SHA1_IS_GONE),
        (CIPHER, ["cipher: aes128-cbc, 3des-cbc"], False),
        (MAC, ["MAC: hmac-sha1"], False),
        (
            {**KEX, **HOST_KEY, **CIPHER, **MAC},
            ["key exchange: diffie-hellman-group14-sha1; host key: ssh-rsa; cipher: aes128-cbc", "MAC"],
            SHA1_IS_GONE,
        ),
    ],
    ids=["kex", "host-key", "cipher", "mac", "all"],
)
def test_a_host_with_weak_algorithms_only(
    tmp_path: Path,
    settings: Settings,
    known_hosts: KnownHostsFile,
    options: dict[str, str],
    said: list[str],
    gone: bool,
) -> None:
    with SshServer(tmp_path, host_key_types=("rsa",), options=options) as server:
        with pytest.raises(NoCommonAlgorithm) as caught:
            log_in(Connector(settings, known_hosts), server, known_hosts)
        assert all(part in str(caught.value) for part in said)
        allowing = Connector(replace(settings, allow_weak_algorithms=True), known_hosts)
        if gone:
            assert caught.value.code == "NO_COMMON_ALGORITHM"
            with pytest.raises(NoCommonAlgorithm):
                log_in(allowing, server, known_hosts)
        else:
            assert caught.value.code == "WEAK_ALGORITHMS_ONLY"
            assert "allow_weak_algorithms" in str(caught.value.hint)
            log_in(allowing, server, known_hosts)


def test_a_short_rsa_host_key(tmp_path: Path, settings: Settings, known_hosts: KnownHostsFile) -> None:
    server = SshServer(tmp_path, host_key_types=("rsa",), options={"RequiredRSASize": "1024"})
    path = tmp_path / "host_key_rsa"
    path.unlink()
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-C", "", "-f", path]
    subprocess.run(command, check=True, timeout=30)
    server.host_keys["ssh-rsa"] = path.with_suffix(".pub").read_text().strip()
    with server:
        with pytest.raises(WeakAlgorithmsOnly, match="has 1024 bits") as caught:
            log_in(Connector(settings, known_hosts), server, known_hosts)
        assert "allow_weak_algorithms" in str(caught.value.hint)
        known_hosts.path.unlink()
        with pytest.raises(WeakAlgorithmsOnly):  # not a question to say yes to
            Connector(settings, known_hosts)(
                Target(server.host, server.port, server.username), Credentials(password="x", use_agent=False)
            )
        log_in(Connector(replace(settings, allow_weak_algorithms=True), known_hosts), server, known_hosts)


def test_a_host_with_both_is_not_asked_for_the_weak_ones(
    tmp_path: Path, settings: Settings, known_hosts: KnownHostsFile
) -> None:
    options = {
        "KexAlgorithms": "diffie-hellman-group14-sha1,curve25519-sha256@libssh.org",
        "Ciphers": "aes128-cbc,aes128-ctr",
        "MACs": "hmac-sha1,hmac-sha2-256",
        "HostKeyAlgorithms": "ssh-rsa,rsa-sha2-256",
        "LogLevel": "DEBUG1",
    }
    with SshServer(tmp_path, host_key_types=("rsa",), options=options) as server:
        for allow in (False, True):
            before = len(server.log())
            connector = Connector(replace(settings, allow_weak_algorithms=allow), known_hosts)
            log_in(connector, server, known_hosts)
            agreed = [line for line in server.log()[before:].splitlines() if "kex: " in line]
            assert agreed
            assert not [
                line for line in agreed if "sha1" in line or "cbc" in line or line.endswith("ssh-rsa")
            ]


@pytest.fixture
def transport() -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    transport = TunnelTransport(ours)
    yield transport
    transport.close()
    ours.close()
    theirs.close()


def test_what_a_host_sent_is_harmless_to_show(transport: Any) -> None:
    offer = {
        "kex_algo_list": [
            "\x1b[31mred",
            "x" * 65,
            "a b",
            "é",
            "",
            "ext-info-s",
            "kex-strict-s-v00@openssh.com",
        ],
        "server_key_algo_list": [f"key-{number}" for number in range(1000)],
        "server_encrypt_algo_list": ["aes128-ctr"],
        "server_mac_algo_list": ["hmac-sha2-256"],
    }
    kex, keys = lacks(transport, offer)
    assert kex == Lack("key exchange", (), weak_would_do=False)
    assert str(kex) == "key exchange: none"
    assert keys.offered == (*(f"key-{number}" for number in range(10)), "…")
