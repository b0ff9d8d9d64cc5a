"""Asking a remote HTTP server, past the tunnel."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from runicorn_remote.errors import LinkLost
from runicorn_remote.ssh.http_probe import MAX_BODY, ProbeFailed, probe_http
from runicorn_remote.ssh.transport import TunnelTransport
from runicorn_remote.ssh.tunnel import Tunnel
from tests.hosts.sshd import SshServer
from tests.ssh.tunnel_kit import TIMEOUT, TcpServer, ssh_client, swallow

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def transport(sshd: SshServer) -> Iterator[TunnelTransport]:
    with ssh_client(sshd) as transport:
        yield transport


def answering(head: bytes, body: bytes) -> TcpServer:
    def handle(sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += sock.recv(65536)
        assert request.startswith(b"GET /api/health HTTP/1.1\r\n")
        sock.sendall(head + b"\r\n\r\n" + body)

    return TcpServer(handle)


def test_status_and_body(transport: TunnelTransport) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"{}") as server:
        answer = probe_http(transport, server.port, "/api/health", TIMEOUT)
    assert (answer.status, answer.body) == (200, b"{}")


def test_an_error_status_is_an_answer(transport: TunnelTransport) -> None:
    with answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0", b"") as server:
        assert probe_http(transport, server.port, "/api/health", TIMEOUT).status == 503


def test_a_body_without_end_is_cut_off(transport: TunnelTransport) -> None:
    with answering(b"HTTP/1.1 200 OK", bytes(2 * MAX_BODY)) as server:
        assert len(probe_http(transport, server.port, "/api/health", TIMEOUT).body) == MAX_BODY


def test_it_is_nobodys_traffic(transport: TunnelTransport) -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0", b"") as server,
        Tunnel("test", local_port=None, max_connections=10, channel_timeout=TIMEOUT) as tunnel,
    ):
        tunnel.attach(transport, server.port)
        before = tunnel.counters(), tunnel.last_activity
        probe_http(transport, server.port, "/api/health", TIMEOUT)
        assert (tunnel.counters(), tunnel.last_activity) == before


def test_a_port_nobody_listens_on(transport: TunnelTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ProbeFailed, match="does not accept") as failure:
        probe_http(transport, port, "/api/health", TIMEOUT)
    assert not failure.value.timed_out


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"]
)
def test_a_port_that_speaks_something_else(transport: TunnelTransport, answer: bytes) -> None:
    def handle(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)

    with TcpServer(handle) as server, pytest.raises(ProbeFailed) as failure:
        probe_http(transport, server.port, "/api/health", TIMEOUT)
    assert not failure.value.timed_out


def test_a_server_that_is_silent(transport: TunnelTransport) -> None:
    with TcpServer(swallow) as server:
        began = time.monotonic()
        with pytest.raises(ProbeFailed) as failure:
            probe_http(transport, server.port, "/api/health", 0.3)
        assert failure.value.timed_out
        assert time.monotonic() - began < TIMEOUT


def test_a_server_that_drips(transport: TunnelTransport) -> None:
    """One deadline for everything, not one for each piece."""

    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        sock.settimeout(0.02)
        while True:
            sock.sendall(b"X: y\r\n")
            try:
                sock.recv(1)
            except TimeoutError:
                continue
            sock.settimeout(0.02)

    with TcpServer(drip) as server, pytest.raises(ProbeFailed) as failure:
        probe_http(transport, server.port, "/api/health", 0.5)
    assert failure.value.timed_out or "does not speak HTTP" in str(failure.value)


def test_a_link_that_is_frozen(sshd: SshServer, transport: TunnelTransport) -> None:
    with TcpServer(swallow) as server:
        sshd.freeze_connections()
        try:
            with pytest.raises(ProbeFailed) as failure:
                probe_http(transport, server.port, "/api/health", 0.3)
        finally:
            sshd.thaw_connections()
    assert failure.value.timed_out


def test_a_link_that_has_ended(transport: TunnelTransport) -> None:
    transport.close()
    with pytest.raises(LinkLost):
        probe_http(transport, 1, "/api/health", TIMEOUT)
