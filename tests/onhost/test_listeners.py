from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from runicorn_remote.onhost import listeners

LISTENS = (
    "import socket, sys\nserver = socket.create_server(('127.0.0.1', 0))\n"
    "print(server.getsockname()[1], flush=True)\nsys.stdin.read()"
)


def test_a_free_port_can_be_bound_and_a_taken_one_not() -> None:
    port = listeners.free_port()
    assert listeners.bindable(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not listeners.bindable(port)
    assert listeners.bindable(port)
    with socket.create_server(("0.0.0.0", port)):
        assert not listeners.bindable(port)


def test_a_port_whose_connections_only_linger_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), 5)
        connection, _ = server.accept()
    connection.close()  # This side closes first, and so keeps the port in TIME_WAIT.
    client.close()
    assert listeners.bindable(port)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_what_is_no_port_cannot_be_bound(port: int) -> None:
    assert not listeners.bindable(port)


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="only Linux tells who listens")
def test_only_the_listener_of_the_process_counts() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        assert listeners.listens(port, other.pid)
        assert not listeners.listens(port, os.getpid())
        assert not listeners.listens(port, 2**30)
        assert not listeners.listens(listeners.free_port(), other.pid)


def test_a_group_member_counts() -> None:
    forks = LISTENS.replace(
        "print", "import os\npid = os.fork()\nif pid:\n    server.close()\n    sys.exit(os.wait()[1])\nprint"
    )
    with subprocess.Popen(
        [sys.executable, "-c", forks], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        assert listeners.listens(int(leader.stdout.readline()), leader.pid)


def test_where_nobody_tells_who_listens_any_listener_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "has_proc", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listeners.listens(port, os.getpid())
    assert not listeners.listens(port, os.getpid())
