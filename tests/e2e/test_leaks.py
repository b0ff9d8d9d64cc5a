"""Nothing piles up in the server, after logins that failed and viewers that ended, nor on the host."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.e2e.user import RemoteAccount, User, is_refused
from tests.hosts import processes
from tests.hosts.server import ServerProcess, fetch
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc"),
]

FAILED_LOGINS = 100
VIEWER_CYCLES = 20
SETTLES_WITHIN = 20.0


@pytest.fixture
def server_environment() -> dict[str, str]:
    return {"RUNICORN_REMOTE_BANNER_TIMEOUT": "0.1", "RUNICORN_REMOTE_LOGIN_BACKOFF_MAX": "0"}


def test_failed_logins_leave_nothing(
    server: ServerProcess, user: User, sshd: SshServer, tmp_path: Path
) -> None:
    stranger = wrong_key(tmp_path)
    with no_banner() as silent_port, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        ways: list[Callable[[], tuple[int, str]]] = [
            lambda: outcome(user, private_key=stranger, private_key_path=None),
            lambda: outcome(user, port=bound.getsockname()[1]),
            lambda: outcome(user, port=silent_port),
        ]
        expected = [(500, "AUTH_FAILED"), (503, "CONNECTION_REFUSED"), (503, "NO_SSH_BANNER")]
        assert [way() for way in ways] == expected  # this also warms the server up
        before = held_by(server)
        for way in islice(cycle(ways), FAILED_LOGINS):
            way()
        settle(server, before)
    files = sorted(path.name for path in server.state_dir.iterdir())
    kept = {"known_hosts", "sessions.json", "sessions.json.owner"}
    assert {name for name in files if not name.endswith(".lock")} == kept
    assert user.get("sessions") == {"sessions": []}
    until(lambda: has_no_connection(sshd), SETTLES_WITHIN, "sshd has no connection any more")


@pytest.mark.viewer
def test_viewers_leave_nothing(
    server: ServerProcess, user: User, account: RemoteAccount, sshd: SshServer
) -> None:
    def come_and_go() -> None:
        session = user.start_viewer()
        assert fetch(session["url"] + "/api/health").status_code == 200
        user.stop_viewer(session)
        assert is_refused(session["localPort"])

    user.connect()
    assert not has_no_connection(sshd)
    come_and_go()
    before = held_by(server)
    for _ in range(VIEWER_CYCLES):
        come_and_go()
    settle(server, before)
    assert user.viewers() == []
    assert account.viewer_processes() == set()
    assert account.private_directories() == []

    user.disconnect()
    until(lambda: has_no_connection(sshd), SETTLES_WITHIN, "sshd has no connection any more")


def outcome(user: User, **changed: object) -> tuple[int, str]:
    answer = user.try_to_connect(**changed)
    return answer.status_code, answer.json()["code"]


def wrong_key(directory: Path) -> str:
    """A key that no host knows."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


@contextlib.contextmanager
def no_banner() -> Iterator[int]:
    """The port of a host that accepts every connection, says nothing, and closes when its client does."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.settimeout(SETTLES_WITHIN)
                    while client.recv(1024):
                        pass

    thread = threading.Thread(target=serve, name="no-banner")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(SETTLES_WITHIN)


def held_by(server: ServerProcess) -> tuple[int, int]:
    """-> threads, descriptors."""
    return processes.thread_count(server.pid), len(processes.descriptors(server.pid))


def settle(server: ServerProcess, before: tuple[int, int]) -> None:
    """Wait until the server holds no more than before."""
    until(
        lambda: all(now <= then for now, then in zip(held_by(server), before, strict=True)),
        SETTLES_WITHIN,
        lambda: (
            f"{before} threads and descriptors again; now {held_by(server)}, "
            f"open are {processes.descriptors(server.pid)}"
        ),
    )


def has_no_connection(sshd: SshServer) -> bool:
    return not established(sshd.port)


def established(port: int) -> list[str]:
    """The TCP connections of this machine that have the port at one end, as /proc/net/tcp has them."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [row for row in rows if row.split()[3] == "01" and f":{port:04X} " in row]
