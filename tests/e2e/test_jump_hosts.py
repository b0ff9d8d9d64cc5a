"""A viewer behind two jump hosts, whose keys nobody knows yet, by the alias of an ssh_config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.user import RemoteAccount, User, is_refused
from tests.hosts.server import ServerProcess, fetch
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

ALIAS = "my-gpu"


@pytest.fixture
def hops(tmp_path: Path) -> Iterator[list[SshServer]]:
    servers: list[SshServer] = []
    try:
        for name in ("outer", "inner"):
            (tmp_path / name).mkdir()
            servers.append(SshServer(tmp_path / name))
            servers[-1].start()
        yield servers
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def server_environment(tmp_path: Path, sshd: SshServer, hops: list[SshServer]) -> dict[str, str]:
    (tmp_path / "parts").mkdir()
    outer, inner = hops
    blocks = [
        f"Host {name}\n  HostName {hop.host}\n  Port {hop.port}\n  User {hop.username}\n"
        f"  IdentityFile {hop.client_key}\n  IdentitiesOnly yes\n"
        for name, hop in (("outer", outer), ("inner", inner), (ALIAS, sshd))
    ]
    (tmp_path / "parts" / "hosts").write_text("".join(blocks))
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Include {tmp_path}/parts/*\nMatch originalhost {ALIAS}\n  ProxyJump inner\n"
        "Match originalhost inner\n  ProxyJump outer\n"
    )
    return {"RUNICORN_REMOTE_SSH_CONFIG": str(config)}


def test_a_viewer_behind_two_jump_hosts(
    server: ServerProcess, sshd: SshServer, hops: list[SshServer], account: RemoteAccount
) -> None:
    user = User(server, {"host": ALIAS, "port": 22, "username": sshd.username})
    for hop in (*hops, sshd):
        asked = user.accept_host_key()["host_key"]
        assert (asked["host"], asked["port"]) == (hop.host, hop.port)
    user.connect()
    session = user.start_viewer()
    assert (session["host"], session["sshPort"]) == (ALIAS, 22)
    assert fetch(f"{session['url']}/api/health").status_code == 200

    # A lost jump host: the chain is rebuilt, and the session goes on where it was.
    hops[1].kill_connections()
    until(lambda: _back(user, session), 30, "the session runs again")
    assert fetch(f"{session['url']}/api/health").status_code == 200

    user.stop_viewer(session)
    assert is_refused(session["localPort"])
    user.disconnect()
    for hop in hops:
        until(lambda hop=hop: not hop._connection_pids(), 10, "the jump host has no connection left")


def _back(user: User, session: dict[str, object]) -> bool:
    (now,) = user.viewers()
    return now["status"] == "running" and now["reconnects"] > 0 and now["url"] == session["url"]
