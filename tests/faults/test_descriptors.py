"""More connections than the 1024 descriptors a process gets by default, and that select() can wait for."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.user import RemoteAccount, User
from tests.hosts import processes
from tests.hosts.faulty_sshd import FaultySshServer
from tests.hosts.server import ServerProcess
from tests.hosts.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc"),
]

CONNECTIONS = 1100
_NEEDED = 4096
TIMEOUT = 60.0
# Health, and an echo of whatever else comes, for any number of connections.
_ECHO = """
import asyncio, resource, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port = int(sys.argv[sys.argv.index("--port") + 1])

async def serve(reader, writer):
    while data := await reader.read(65536):
        if data.startswith(b"GET "):
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 16\\r\\n\\r\\n" + b'{"status": "ok"}')
            break
        writer.write(data)
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()

asyncio.run(main())
"""


@contextlib.contextmanager
def soft_limit(wanted: int) -> Iterator[None]:
    """For this process, and for those it starts meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < _NEEDED,
    reason="the hard limit of descriptors is low",
)
def test_more_than_1024_connections_through_one_tunnel(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    with soft_limit(_NEEDED), FaultySshServer(tmp_path / "host") as host:
        account = RemoteAccount(host.home)
        account.add_stand_in("echo", _ECHO)
        server = ServerProcess(tmp_path, environment={"RUNICORN_REMOTE_MAX_TUNNEL_CONNECTIONS": "2000"})
        with soft_limit(256):
            server.start()
        try:
            _open_echo_and_close(server, host)
        finally:
            server.kill()


def _open_echo_and_close(server: ServerProcess, host: FaultySshServer) -> None:
    user = User(
        server,
        {
            "host": host.host,
            "port": host.port,
            "username": host.username,
            "private_key_path": str(host.client_key),
        },
    )
    user.accept_host_key()
    session = user.start_viewer("echo")
    before = len(processes.descriptors(server.pid))
    with contextlib.ExitStack() as stack:
        opened = []
        for number in range(CONNECTIONS):
            sock = stack.enter_context(
                socket.create_connection(("127.0.0.1", session["localPort"]), timeout=TIMEOUT)
            )
            sock.sendall(b"%d" % number)
            opened.append(sock)
        for number, sock in enumerate(opened):
            assert sock.recv(64) == b"%d" % number
        assert len(processes.descriptors(server.pid)) > 1024
        shown = user.viewers()[0]
        assert shown["tunnel"]["openConnections"] == CONNECTIONS
        assert shown["status"] == "running"
        # Beyond 1024 everything else has to work too: a login, a second viewer, its health.
        second = user.start_viewer("echo")
        assert second["status"] == "running"
        user.stop_viewer(second)
    until(
        lambda: len(processes.descriptors(server.pid)) <= before + 2,
        TIMEOUT,
        lambda: f"all are closed, but {len(processes.descriptors(server.pid))}, before {before}",
    )
    user.stop_viewer(session)
    assert server.stop() == 0
    assert "Traceback" not in server.output()
