"""What becomes of a tunnel when its link is lost, frozen, rekeyed or replaced, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from paramiko.common import MSG_KEXINIT, MSG_NEWKEYS

from runicorn_remote.ssh.transport import TunnelTransport
from runicorn_remote.ssh.tunnel import Tunnel
from tests.hosts.sshd import SshServer
from tests.ssh.tunnel_kit import (
    BLOCK,
    TIMEOUT,
    TcpServer,
    answer_length_and_digest,
    connect,
    echo,
    fingerprint,
    fingerprint_of,
    is_reset,
    read_all,
    relay_through,
    round_trip,
    send_blocks,
    ssh_client,
    swallow,
    wait_until,
)

pytestmark = pytest.mark.sshd

MEGABYTE = 1 << 20
HIGHEST_TRANSPORT_MESSAGE = 49


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def transport(sshd: SshServer) -> Iterator[TunnelTransport]:
    with ssh_client(sshd) as transport:
        yield transport


def make_tunnel(**options: Any) -> Tunnel:
    defaults: dict[str, Any] = {"local_port": None, "max_connections": 1000, "channel_timeout": TIMEOUT}
    return Tunnel("test", **{**defaults, **options})


class Losses:
    """An `on_link_lost` that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[TunnelTransport, str]] = []

    def __call__(self, transport: TunnelTransport) -> None:
        self.seen.append((transport, threading.current_thread().name))


class TestLoss:
    @pytest.mark.parametrize("how", ["killed", "closed"])
    def test_in_mid_transfer_clients_are_reset_and_the_owner_is_told_once(
        self, sshd: SshServer, transport: TunnelTransport, how: str
    ) -> None:
        losses = Losses()
        with TcpServer(send_blocks(16000)) as server, make_tunnel(on_link_lost=losses) as tunnel:
            tunnel.attach(transport, server.port)
            clients = [connect(tunnel.local_port) for _ in range(5)]
            for sock in clients:
                sock.sendall(b"x")
                assert sock.recv(65536)
            if how == "killed":
                sshd.kill_connections()
            else:
                transport.close()
            assert all(is_reset(sock) for sock in clients)
            wait_until(lambda: losses.seen, "on_link_lost")
            assert tunnel.counters().open_connections == 0
            for sock in clients:
                sock.close()
        assert losses.seen == [(transport, "tunnel-test")]

    def test_a_transport_that_has_ended_before_is_a_lost_link(self, transport: TunnelTransport) -> None:
        losses = Losses()
        transport.close()
        with make_tunnel(on_link_lost=losses) as tunnel:
            tunnel.attach(transport, 1)
            wait_until(lambda: losses.seen, "on_link_lost")

    def test_detach_resets_clients_and_is_no_loss(self, transport: TunnelTransport) -> None:
        losses = Losses()
        with TcpServer(echo) as server, make_tunnel(on_link_lost=losses) as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.sendall(b"ping")
                assert sock.recv(4) == b"ping"
                tunnel.detach()
                assert is_reset(sock)
            wait_until(lambda: not transport._asynchronous, "both sides closing the channel")
        assert losses.seen == []

    def test_the_callback_may_stop_the_tunnel(self, transport: TunnelTransport) -> None:
        stopped = threading.Event()

        def stop(_transport: TunnelTransport) -> None:
            tunnel.stop()
            stopped.set()

        tunnel = make_tunnel(on_link_lost=stop)
        tunnel.attach(transport, 1)
        transport.close()
        assert stopped.wait(TIMEOUT)
        tunnel.stop()


class TestHolding:
    def test_connections_wait_for_the_next_link(self, sshd: SshServer, transport: TunnelTransport) -> None:
        losses = Losses()
        with (
            TcpServer(echo) as server,
            make_tunnel(on_link_lost=losses, hold_timeout=TIMEOUT) as tunnel,
        ):
            tunnel.attach(transport, server.port)
            assert round_trip(tunnel.local_port) == b"ping"
            transport.close()
            wait_until(lambda: losses.seen, "on_link_lost")
            waiting = [connect(tunnel.local_port) for _ in range(3)]
            for sock in waiting:
                sock.sendall(b"ping")
            wait_until(lambda: tunnel.counters().open_connections == 3, "the connections")
            with ssh_client(sshd) as second:
                tunnel.attach(second, server.port)
                for sock in waiting:
                    assert sock.recv(4) == b"ping"
                    sock.close()

    def test_not_for_ever(self, transport: TunnelTransport) -> None:
        with make_tunnel(hold_timeout=0.2) as tunnel:
            tunnel.attach(transport, 1)
            tunnel.detach()
            with connect(tunnel.local_port) as sock:
                assert sock.recv(1) == b""
            assert tunnel.counters().open_connections == 0

    def test_not_too_many(self, transport: TunnelTransport) -> None:
        with make_tunnel(hold_timeout=TIMEOUT, hold_limit=2) as tunnel:
            tunnel.attach(transport, 1)
            tunnel.detach()
            waiting = [connect(tunnel.local_port) for _ in range(2)]
            wait_until(lambda: tunnel.counters().open_connections == 2, "the connections")
            with connect(tunnel.local_port) as extra:
                assert extra.recv(1) == b""
            for sock in waiting:
                sock.close()

    def test_a_replaced_link_resets_the_connections_of_the_old_one(
        self, sshd: SshServer, transport: TunnelTransport
    ) -> None:
        losses = Losses()
        with (
            TcpServer(echo) as server,
            make_tunnel(on_link_lost=losses) as tunnel,
            ssh_client(sshd) as second,
        ):
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.sendall(b"ping")
                assert sock.recv(4) == b"ping"
                tunnel.attach(second, server.port)
                assert is_reset(sock)
            transport.close()
            assert round_trip(tunnel.local_port) == b"ping"
            assert losses.seen == []


class TestCongestion:
    def test_uploads_wait_for_room_and_go_on(self, sshd: SshServer) -> None:
        gate = threading.Event()
        gate.set()
        data = os.urandom(4 * MEGABYTE)
        with (
            TcpServer(relay_through(gate, sshd.port)) as relay,
            ssh_client(sshd, sock=connect(relay.port)) as transport,
            TcpServer(answer_length_and_digest) as server,
            make_tunnel() as tunnel,
            make_tunnel() as other,
            ThreadPoolExecutor(24) as pool,
        ):
            tunnel.attach(transport, server.port)
            other.attach(transport, server.port)
            sockets = [connect(chosen.local_port) for chosen in (tunnel, other) for _ in range(12)]
            for sock in sockets:
                sock.sendall(b"x")
            wait_until(
                lambda: tunnel.counters().bytes_out + other.counters().bytes_out == 24, "the first bytes"
            )
            gate.clear()

            def upload(sock: socket.socket) -> bytes:
                with sock:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    return read_all(sock)

            answers = [pool.submit(upload, sock) for sock in sockets]
            wait_until(lambda: transport.is_backlogged, "the link being full")
            gate.set()
            assert [answer.result(TIMEOUT) for answer in answers] == [fingerprint(b"x" + data)] * len(sockets)


class TestStop:
    def test_on_a_frozen_link_it_keeps_its_deadline(
        self, sshd: SshServer, transport: TunnelTransport
    ) -> None:
        with TcpServer(swallow) as server, contextlib.ExitStack() as clients:
            tunnel = make_tunnel()
            tunnel.attach(transport, server.port)
            sockets = [clients.enter_context(connect(tunnel.local_port)) for _ in range(16)]
            for sock in sockets:
                sock.sendall(b"x")
            wait_until(lambda: tunnel.counters().bytes_out == len(sockets), "the first bytes")
            sshd.freeze_connections()
            try:
                for sock in sockets:
                    fill(sock)
                assert transport.is_backlogged  # else this test shows nothing
                began = time.monotonic()
                tunnel.stop(deadline=5.0)
                assert time.monotonic() - began < 5.0
                assert "tunnel-test" not in {thread.name for thread in threading.enumerate()}
                assert all(is_reset(sock) for sock in sockets)
            finally:
                sshd.thaw_connections()
            make_tunnel(local_port=tunnel.local_port).stop()  # the port is free again
            wait_until(lambda: not transport._asynchronous, "the farewells that had no room")
            assert transport.is_active()

    def test_twice_and_from_several_threads(self, transport: TunnelTransport) -> None:
        with TcpServer(send_blocks(16000)) as server:
            tunnel = make_tunnel()
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock, ThreadPoolExecutor(4) as pool:
                sock.sendall(b"x")
                assert sock.recv(1)
                list(pool.map(lambda _: tunnel.stop(), range(8)))
                assert is_reset(sock)
            tunnel.attach(transport, server.port)  # too late, and harmless
            tunnel.detach()
            with pytest.raises(ConnectionRefusedError):
                connect(tunnel.local_port)

    def test_before_any_link(self) -> None:
        tunnel = make_tunnel()
        tunnel.detach()
        tunnel.stop()
        tunnel.stop()
        with pytest.raises(ConnectionRefusedError):
            connect(tunnel.local_port)

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
    def test_two_hundred_tunnels_leave_nothing_behind(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server:
            before = open_descriptors()
            for _ in range(200):
                with make_tunnel() as tunnel:
                    tunnel.attach(transport, server.port)
                    assert round_trip(tunnel.local_port) == b"ping"
            wait_until(lambda: not transport._asynchronous, "both sides closing every channel")
            wait_until(lambda: open_descriptors() <= before, "every descriptor being closed")
            assert not transport._observers


class TestKeyExchange:
    def test_ours_under_load_both_ways(self, transport: TunnelTransport) -> None:
        transport.packetizer.REKEY_BYTES = MEGABYTE
        exchanges = count_exchanges(transport)
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            assert_echoes(tunnel.local_port, os.urandom(30 * MEGABYTE))
        assert exchanges() >= 15  # a full buffer may come in after the threshold, half a megabyte
        assert transport.is_active()

    def test_sshds_under_load_both_ways(self, tmp_path: Path) -> None:
        with (
            SshServer(tmp_path, options={"RekeyLimit": "1M"}) as sshd,
            ssh_client(sshd) as transport,
            TcpServer(echo) as server,
            make_tunnel() as tunnel,
        ):
            exchanges = count_exchanges(transport)
            tunnel.attach(transport, server.port)
            with ThreadPoolExecutor(4) as pool:
                data = os.urandom(8 * MEGABYTE)
                list(pool.map(lambda _: assert_echoes(tunnel.local_port, data), range(4)))
            assert exchanges() >= 20
            assert transport.is_active()

    def test_with_connections_coming_and_going(self, transport: TunnelTransport) -> None:
        transport.packetizer.REKEY_BYTES = 64 * 1024
        exchanges = count_exchanges(transport)
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: round_trip(tunnel.local_port, b"x" * 5000), range(300)))
            assert answers == [b"x" * 5000] * 300
        assert exchanges() >= 10
        assert transport.is_active()

    def test_nothing_else_is_sent_meanwhile(self, transport: TunnelTransport) -> None:
        """sshd lets it pass, other servers end the connection."""
        transport.packetizer.REKEY_BYTES = 64 * 1024
        sent = record_sent(transport)
        with TcpServer(echo) as server, make_tunnel() as tunnel, ThreadPoolExecutor(8) as pool:
            tunnel.attach(transport, server.port)
            list(pool.map(lambda _: assert_echoes(tunnel.local_port, bytes(100_000)), range(100)))
        exchanging = False
        for number in list(sent):
            if number in (MSG_KEXINIT, MSG_NEWKEYS):
                exchanging = number == MSG_KEXINIT
            assert not exchanging or number <= HIGHEST_TRANSPORT_MESSAGE
        assert sent.count(MSG_KEXINIT) >= 10


class TestDescriptors:
    def test_numbers_beyond_1024_work(self, transport: TunnelTransport) -> None:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2000:
            pytest.skip(f"this user may have only {hard} descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            assert max(taken) > 1024
            with TcpServer(echo) as server, make_tunnel() as tunnel:
                tunnel.attach(transport, server.port)
                assert_echoes(tunnel.local_port, os.urandom(MEGABYTE))
        finally:
            for descriptor in taken:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.skipif(sys.platform != "linux", reason="relies on how Linux numbers descriptors")
    def test_without_any_left_connections_wait(
        self, transport: TunnelTransport, caplog: pytest.LogCaptureFixture
    ) -> None:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with TcpServer(echo) as server, make_tunnel() as tunnel, socket.socket() as sock:
            tunnel.attach(transport, server.port)
            assert round_trip(tunnel.local_port) == b"ping"
            sock.settimeout(TIMEOUT)
            next_free = os.dup(sock.fileno())
            os.close(next_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, hard))
            try:
                sock.connect(("127.0.0.1", tunnel.local_port))
                sock.sendall(b"ping")
                wait_until(lambda: "cannot accept connections" in caplog.text, "the warning")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert sock.recv(4) == b"ping"
            assert caplog.text.count("cannot accept connections") < 50  # it has not spun


def fill(sock: socket.socket) -> None:
    """Send until every buffer on the way is full."""
    sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            sock.sendall(BLOCK)
    sock.settimeout(TIMEOUT)


def assert_echoes(port: int, data: bytes) -> None:
    with connect(port) as sock, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fingerprint_of, sock)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert answer.result(TIMEOUT) == fingerprint(data)


def count_exchanges(transport: TunnelTransport) -> Any:
    """-> a function that tells how many key exchanges there were since."""
    seen: list[None] = []

    class Observer:
        def rekeyed(self) -> None:
            seen.append(None)

        def backlogged(self) -> None: ...
        def link_lost(self) -> None: ...

    transport.add_observer(Observer())
    return lambda: len(seen)


def record_sent(transport: TunnelTransport) -> list[int]:
    """-> the numbers of the messages sent from now on, in their order."""
    numbers: list[int] = []

    def recorder(send: Any) -> Any:
        def record(message: Any) -> None:
            numbers.append(message.asbytes()[0])
            send(message)

        return record

    for name in ("send_message", "post"):
        setattr(transport.packetizer, name, recorder(getattr(transport.packetizer, name)))
    return numbers


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
