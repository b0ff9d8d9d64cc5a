"""Chains of real sshds, with aliases of ssh_config, and a viewer's worth of traffic through them."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runicorn_remote.errors import (
    AuthenticationFailed,
    HostKeyConfirmationRequired,
    HostKeyProblem,
    LinkLost,
    SshConfigUnusable,
    TargetForbidden,
    Unreachable,
)
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.route import MAX_JUMPS, Router
from runicorn_remote.ssh.ssh_config import SshConfig
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import write_known_hosts
from tests.ssh.tunnel_kit import TcpServer, connect, echo, round_trip, swallow, wait_until

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed (Debian: openssh-client)"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SshServer]]:
    """`outer`, `inner` and `gpu`: three sshds, each with keys of its own."""
    found = {}
    try:
        for name in ("outer", "inner", "gpu"):
            found[name] = SshServer(tmp_path_factory.mktemp(name), options={"LogLevel": "VERBOSE"})
            found[name].start()
        yield found
    finally:
        for server in found.values():
            server.stop()


@pytest.fixture
def ssh_directory(private_home: Path) -> Path:
    directory = private_home / ".ssh"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def chain(servers: dict[str, SshServer], ssh_directory: Path) -> Target:
    """`gpu` behind `inner` behind `outer`, each let in with a key of its own."""
    blocks = []
    for name, server in servers.items():
        blocks += [
            f"Host {name}",
            f"    HostName {server.host}",
            f"    Port {server.port}",
            f"    User {server.username}",
            f"    IdentityFile {server.client_key}",
            "    IdentitiesOnly yes",
        ]
    blocks += ["Host inner", "    ProxyJump outer", "Host gpu", "    ProxyJump inner"]
    (ssh_directory / "config").write_text("\n".join(blocks) + "\n")
    return Target("gpu", 22, servers["gpu"].username)


@pytest.fixture
def trusting(known_hosts: KnownHostsFile, servers: dict[str, SshServer]) -> None:
    write_known_hosts(
        known_hosts, *(line for server in servers.values() for line in server.known_hosts_lines())
    )


@pytest.fixture
def remote(connector: Connector, chain: Target, trusting: None) -> Iterator[RemoteHost]:
    remote = connector(chain, Credentials())
    yield remote
    remote.close()


def unknown(connector: Connector, target: Target) -> HostKeyProblem:
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        connector(target, Credentials())
    return caught.value.problem


def connections(server: SshServer) -> set[int]:
    return server._connection_pids()


# --- the keys of the hosts


def test_each_hop_asks_about_its_own_key(
    connector: Connector, chain: Target, known_hosts: KnownHostsFile, servers: dict[str, SshServer]
) -> None:
    for name in ("outer", "inner", "gpu"):
        problem = unknown(connector, chain)
        server = servers[name]
        assert (problem.host, problem.port) == (server.host, server.port)
        assert problem.known_hosts_host == f"[{server.host}]:{server.port}"
        assert problem.public_key == server.host_keys["ssh-ed25519"]
        known_hosts.accept(problem.host, problem.port, HostKey.of(*problem.public_key.split()))
    remote = connector(chain, Credentials())
    try:
        assert remote.target == chain
        assert remote.run_script("echo hello", timeout=10).stdout == b"hello\n"
    finally:
        remote.close()


def test_a_changed_key_of_a_hop(
    connector: Connector,
    chain: Target,
    known_hosts: KnownHostsFile,
    servers: dict[str, SshServer],
    trusting: None,
) -> None:
    inner, gpu = servers["inner"], servers["gpu"]
    known_hosts.accept(inner.host, inner.port, HostKey.of(*gpu.host_keys["ssh-ed25519"].split()))
    problem = unknown(connector, chain)
    assert (problem.port, problem.reason) == (inner.port, "changed")


def test_a_key_under_an_alias(
    connector: Connector, ssh_directory: Path, servers: dict[str, SshServer], known_hosts: KnownHostsFile
) -> None:
    gpu = servers["gpu"]
    (ssh_directory / "config").write_text(
        f"Host farm\nHostName {gpu.host}\nPort {gpu.port}\nHostKeyAlias the-farm\n"
        f"IdentityFile {gpu.client_key}\n"
    )
    farm = Target("farm", 22, gpu.username)
    problem = unknown(connector, farm)
    assert (problem.host, problem.port, problem.known_hosts_host) == ("the-farm", 22, "the-farm")
    known_hosts.accept(problem.host, problem.port, HostKey.of(*problem.public_key.split()))
    connector(farm, Credentials()).close()


# --- what goes over a chain


def test_commands_files_and_a_tunnel(remote: RemoteHost) -> None:
    data = os.urandom(5 * 1024 * 1024)
    with remote.sftp(timeout=20) as sftp:
        assert sftp is not None
    with (
        TcpServer(echo) as server,
        Tunnel("chain", local_port=None, max_connections=10, channel_timeout=10.0) as tunnel,
    ):
        tunnel.attach(remote.transport, server.port)
        threads = [threading.Thread(target=round_trip, args=(tunnel.local_port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert round_trip(tunnel.local_port, data) == data
        for thread in threads:
            thread.join(20)


def test_closing_closes_every_hop(remote: RemoteHost, servers: dict[str, SshServer]) -> None:
    assert all(connections(server) for server in servers.values())
    remote.close()
    assert not remote.connected
    for name, server in servers.items():
        wait_until(lambda server=server: not connections(server), f"{name} has no connection left")
    assert [thread.name for thread in threading.enumerate() if thread.name == "ssh-transport"] == []


@pytest.mark.parametrize("name", ["outer", "inner"])
def test_a_hop_that_is_lost_loses_the_link(
    remote: RemoteHost, servers: dict[str, SshServer], name: str
) -> None:
    servers[name].kill_connections()
    wait_until(lambda: not remote.connected, "the loss shows")
    with pytest.raises(LinkLost):
        remote.run_script("true", timeout=5)


def test_closing_over_a_frozen_hop(remote: RemoteHost, servers: dict[str, SshServer]) -> None:
    """It waits for nobody: the fixture would find the threads."""
    servers["outer"].freeze_connections()
    try:
        with pytest.raises(LinkLost):
            remote.check(0.5)
        remote.close()
    finally:
        servers["outer"].thaw_connections()


@pytest.mark.parametrize("name", ["outer", "inner", "gpu"])
def test_uploads_over_a_frozen_hop_end_with_the_connection(
    remote: RemoteHost, servers: dict[str, SshServer], name: str
) -> None:
    """The tunnel's thread may wait for a hop's window; closing wakes it."""
    with (
        TcpServer(swallow) as server,
        Tunnel("chain", local_port=None, max_connections=10, channel_timeout=10.0) as tunnel,
    ):
        tunnel.attach(remote.transport, server.port)
        with connect(tunnel.local_port) as client:
            client.sendall(b"x")
            wait_until(lambda: tunnel.counters().bytes_out, "the connection is up")
            servers[name].freeze_connections()
            try:
                client.settimeout(0.5)
                with pytest.raises((TimeoutError, ConnectionError)):
                    client.sendall(bytes(64 * 1024 * 1024))
                remote.close()
                tunnel.stop()
                assert not [thread for thread in threading.enumerate() if thread.name == "tunnel-chain"]
            finally:
                servers[name].thaw_connections()


def test_failing_at_a_later_hop_leaves_nothing(
    connector: Connector, chain: Target, known_hosts: KnownHostsFile, servers: dict[str, SshServer]
) -> None:
    write_known_hosts(known_hosts, *servers["outer"].known_hosts_lines())
    assert unknown(connector, chain).port == servers["inner"].port
    wait_until(lambda: not connections(servers["outer"]), "the first hop is left")


# --- credentials


def test_the_key_that_was_given_serves_hops_too(
    connector: Connector, chain: Target, ssh_directory: Path, servers: dict[str, SshServer], trusting: None
) -> None:
    text = (ssh_directory / "config").read_text()
    without = "\n".join(line for line in text.splitlines() if "Identit" not in line)
    (ssh_directory / "config").write_text(without + "\n")
    gpu = servers["gpu"]
    with pytest.raises(AuthenticationFailed, match=str(servers["outer"].port)) as caught:
        connector(chain, Credentials(private_key=gpu.client_key.read_text()))
    assert "jump host" in (caught.value.hint or "")
    for name in ("outer", "inner"):
        keys = servers[name].directory / "authorized_keys"
        before = keys.read_text()
        keys.write_text(before + gpu.client_key.with_suffix(".pub").read_text())
    connector(chain, Credentials(private_key=gpu.client_key.read_text())).close()


def test_a_password_is_for_the_target_only(
    connector: Connector, tmp_path: Path, ssh_directory: Path, known_hosts: KnownHostsFile
) -> None:
    options = {"PasswordAuthentication": "yes", "LogLevel": "DEBUG2"}
    (tmp_path / "jump").mkdir()
    with SshServer(tmp_path / "jump", options=options) as jump:
        write_known_hosts(known_hosts, *jump.known_hosts_lines())
        (ssh_directory / "config").write_text(
            f"Host gpu\nProxyJump {jump.username}@{jump.host}:{jump.port}\nIdentityFile {jump.client_key}\n"
        )
        with pytest.raises(AuthenticationFailed) as caught:
            connector(Target("gpu", 22, jump.username), Credentials(password="c4n4ry"))
        assert "nothing to log in" in str(caught.value)
        assert "method password" not in jump.log()


# --- what may go wrong on the way


def test_where_a_jump_host_does_not_get(
    connector: Connector, chain: Target, ssh_directory: Path, servers: dict[str, SshServer], trusting: None
) -> None:
    with (ssh_directory / "config").open("a") as config:
        config.write("Host closed\nHostName 127.0.0.1\nPort 1\nProxyJump outer\n")
        config.write("Host nowhere\nHostName nowhere.invalid\nProxyJump outer\n")
    for name in ("closed", "nowhere"):
        with pytest.raises(Unreachable, match=r"The jump host .* cannot reach") as caught:
            connector(Target(name, 22, "me"), Credentials())
        assert caught.value.code == "NO_ROUTE"
    wait_until(lambda: not connections(servers["outer"]), "the jump host is left")


def test_a_jump_host_that_does_not_forward(
    connector: Connector, tmp_path: Path, ssh_directory: Path, known_hosts: KnownHostsFile
) -> None:
    (tmp_path / "jump").mkdir()
    with SshServer(tmp_path / "jump", options={"AllowTcpForwarding": "no"}) as jump:
        write_known_hosts(known_hosts, *jump.known_hosts_lines())
        (ssh_directory / "config").write_text(
            f"Host gpu\nProxyJump jump\nHost jump\nHostName {jump.host}\nPort {jump.port}\n"
            f"User {jump.username}\nIdentityFile {jump.client_key}\n"
        )
        with pytest.raises(Unreachable, match="does not forward") as caught:
            connector(Target("gpu", 22, "me"), Credentials())
        assert caught.value.code == "JUMP_REFUSED"


def test_forbidden_hosts_are_refused_before_a_jump_host_hears_of_them(
    settings: Settings,
    known_hosts: KnownHostsFile,
    chain: Target,
    servers: dict[str, SshServer],
    trusting: None,
) -> None:
    before = servers["outer"].log()
    connector = Connector(replace(settings, denied_targets=("127.0.0.0/8",)), known_hosts)
    with pytest.raises(TargetForbidden):
        connector(chain, Credentials())
    assert servers["outer"].log() == before


# --- the way


def way(text: str, tmp_path: Path, host: str = "gpu", port: int = 22) -> list[str]:
    file = tmp_path / "config"
    file.write_text(text)
    config = SshConfig(str(file), commands=True, timeout=10.0, program=shutil.which("ssh"))
    return [str(hop.target) for hop in Router(config).route(Target(host, port, "me"))]


def test_the_order_is_that_of_ssh(tmp_path: Path) -> None:
    text = """
        Host gpu
            HostName gpu.example.org
            ProxyJump a@first:2201,second
        Host first
            ProxyJump zeroth
            User nobody
        Host second
            HostName 10.0.0.2
            ProxyJump ignored
            User b
        Host zeroth
            User z
    """
    assert way(text, tmp_path) == ["z@zeroth:22", "a@first:2201", "b@10.0.0.2:22", "me@gpu.example.org:22"]
    assert way("Host *\nPort 2022\nUser you", tmp_path) == ["me@gpu:2022"]
    assert way("Host *\nPort 2022\nUser you", tmp_path, port=2200) == ["me@gpu:2200"]
    assert way("Host gpu\nProxyJump [::1]:2201\nUser you", tmp_path)[0].endswith("@[::1]:2201")


@pytest.mark.parametrize(
    "text",
    [
        "Host gpu\nProxyJump a\nHost a\nProxyJump b\nHost b\nProxyJump a\n",
        "Host *\nProxyJump a\nUser me\n",
        "Host gpu\nProxyJump a\nHost a\nHostName gpu\nUser me\n",
        "\n".join(f"Host h{n}\nProxyJump h{n + 1}" for n in range(MAX_JUMPS + 2))
        + "\nHost gpu\nProxyJump h0\n",
        "Host gpu\nProxyJump -oProxyCommand=x\n",
        "Host gpu\nProxyJump a;b\n",
        "Host gpu\nHostName -x\n",
        "Host gpu\nHostKeyAlias *\n",
    ],
)
def test_ways_that_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SshConfigUnusable):
        way(text, tmp_path)


# --- ProxyCommand


RELAY = """
import os, selectors, socket, sys
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
open(sys.argv[3], "w").write(str(os.getpid()))
selector = selectors.DefaultSelector()
selector.register(0, selectors.EVENT_READ)
selector.register(peer, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        data = os.read(key.fd, 65536)
        if not data:
            raise SystemExit
        peer.sendall(data) if key.fd == 0 else os.write(1, data)
"""


@pytest.fixture
def by_command(ssh_directory: Path, servers: dict[str, SshServer], tmp_path: Path, trusting: None) -> Target:
    gpu = servers["gpu"]
    (tmp_path / "relay.py").write_text(RELAY)
    (ssh_directory / "config").write_text(
        f"Host gpu\nHostName {gpu.host}\nPort {gpu.port}\nIdentityFile {gpu.client_key}\n"
        f"ProxyCommand {sys.executable} {tmp_path}/relay.py %h %p {tmp_path}/pid 2>/dev/null\n"
    )
    return Target("gpu", 22, gpu.username)


def test_a_proxy_command(connector: Connector, by_command: Target, tmp_path: Path) -> None:
    remote = connector(by_command, Credentials())
    try:
        with (
            TcpServer(echo) as server,
            Tunnel("proxied", local_port=None, max_connections=10, channel_timeout=10.0) as tunnel,
        ):
            tunnel.attach(remote.transport, server.port)
            data = os.urandom(2 * 1024 * 1024)
            assert round_trip(tunnel.local_port, data) == data
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    finally:
        remote.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_proxy_command_that_fails(connector: Connector, by_command: Target, ssh_directory: Path) -> None:
    (ssh_directory / "config").write_text("Host gpu\nProxyCommand sh -c 'exit 7'\n")
    with pytest.raises(Unreachable, match="ended with status 7") as caught:
        connector(by_command, Credentials())
    assert caught.value.code == "PROXY_COMMAND_FAILED"


@pytest.mark.parametrize("user", ["$(touch${IFS}mark)x", "a`touch${IFS}mark`", "a;b"])
@pytest.mark.parametrize("program", [shutil.which("ssh"), None])
def test_no_user_name_reaches_the_shell_of_a_proxy_command(
    tmp_path: Path, user: str, program: str | None
) -> None:
    """Newer versions of ssh refuse such names themselves."""
    (tmp_path / "config").write_text("Host gpu\nProxyCommand echo %r\n")
    config = SshConfig(str(tmp_path / "config"), commands=True, timeout=10.0, program=program)
    with pytest.raises(SshConfigUnusable, match=r"shell|invalid characters"):
        Router(config).route(Target("gpu", 22, user))
