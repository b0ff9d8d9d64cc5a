"""Tunnels through a real sshd: bytes, closes, limits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runicorn_remote.errors import LocalPortInUse
from runicorn_remote.ssh.forward_channel import LONG_WIRE_WINDOW, WINDOW
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
    reset,
    round_trip,
    send_blocks,
    ssh_client,
    swallow,
    wait_until,
)

pytestmark = pytest.mark.sshd

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd"), options={"MaxStartups": "100"}) as server:
        yield server


@pytest.fixture
def transport(sshd: SshServer) -> Iterator[TunnelTransport]:
    with ssh_client(sshd) as transport:
        yield transport


def make_tunnel(**options: Any) -> Tunnel:
    defaults: dict[str, Any] = {"local_port": None, "max_connections": 1000, "channel_timeout": TIMEOUT}
    return Tunnel("test", **{**defaults, **options})


class TestBytes:
    def test_both_loopback_addresses_lead_to_the_remote_port(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            for host in ("127.0.0.1", "::1"):
                with connect(tunnel.local_port, host) as sock:
                    sock.sendall(b"ping")
                    assert sock.recv(4) == b"ping"

    def test_a_hundred_megabytes_each_way_at_once_arrive_unchanged(self, transport: TunnelTransport) -> None:
        data = os.urandom(10 * MEGABYTE) * 10
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock, ThreadPoolExecutor(1) as pool:
                answer = pool.submit(fingerprint_of, sock)
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert answer.result(TIMEOUT) == fingerprint(data)
            counters = tunnel.counters()
            assert (counters.bytes_in, counters.bytes_out) == (len(data), len(data))

    def test_the_client_may_finish_sending_and_still_gets_the_whole_answer(
        self, transport: TunnelTransport
    ) -> None:
        data = os.urandom(5 * MEGABYTE)
        with TcpServer(answer_length_and_digest) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert read_all(sock) == fingerprint(data)

    def test_the_server_may_finish_sending_and_still_gets_the_whole_upload(
        self, transport: TunnelTransport
    ) -> None:
        data = os.urandom(5 * MEGABYTE)
        seen: list[bytes] = []

        def finish_then_read(sock: socket.socket) -> None:
            sock.sendall(b"done")
            sock.shutdown(socket.SHUT_WR)
            seen.append(fingerprint_of(sock))

        with TcpServer(finish_then_read) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                assert read_all(sock) == b"done"
                sock.sendall(data)
            wait_until(lambda: seen, "the upload's end")
            assert seen == [fingerprint(data)]

    def test_a_server_that_answers_early_and_closes_is_heard(self, transport: TunnelTransport) -> None:
        def refuse_early(sock: socket.socket) -> None:
            sock.recv(1)
            sock.sendall(b"413 too large")

        with TcpServer(refuse_early) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:

                def goes_on_sending_until_the_end() -> bool:  # sshd closes when it cannot deliver this
                    sock.sendall(b"more")
                    return tunnel.counters().open_connections == 0

                wait_until(goes_on_sending_until_the_end, "the remote's close")
                assert read_all(sock) == b"413 too large"

    def test_a_server_that_closes_at_once_is_an_end_of_file(self, transport: TunnelTransport) -> None:
        with TcpServer(lambda sock: None) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                assert read_all(sock) == b""

    def test_counters_and_last_activity_follow_the_bytes(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            before = tunnel.last_activity
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.sendall(b"12345")
                assert sock.recv(5) == b"12345"
                counters = tunnel.counters()
                assert (counters.open_connections, counters.total_connections) == (1, 1)
                assert tunnel.last_activity > before
            wait_until(lambda: tunnel.counters().open_connections == 0, "the connection's end")
            counters = tunnel.counters()
            assert (counters.bytes_in, counters.bytes_out, counters.total_connections) == (5, 5, 1)

    def test_several_tunnels_share_one_transport(self, transport: TunnelTransport) -> None:
        data = os.urandom(MEGABYTE)
        tunnels = [make_tunnel() for _ in range(5)]
        try:
            with TcpServer(echo) as server, ThreadPoolExecutor(5) as pool:
                for tunnel in tunnels:
                    tunnel.attach(transport, server.port)
                assert all(
                    answer == data
                    for answer in pool.map(lambda tunnel: exchange(tunnel.local_port, data), tunnels)
                )
                tunnels[0].stop()
                assert round_trip(tunnels[1].local_port) == b"ping"
        finally:
            for tunnel in tunnels:
                tunnel.stop()

    def test_through_a_jump_host(self, sshd: SshServer, transport: TunnelTransport) -> None:
        data = os.urandom(5 * MEGABYTE)
        hop = transport.open_channel(
            "direct-tcpip", (sshd.host, sshd.port), ("127.0.0.1", 0), timeout=TIMEOUT
        )
        with ssh_client(sshd, sock=hop) as inner, TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(inner, server.port)
            assert exchange(tunnel.local_port, data) == data


class TestFlowControl:
    def test_readers_that_stop_delay_nobody_and_cost_one_window_each(
        self, transport: TunnelTransport
    ) -> None:
        blocks = 320  # 20 MB
        with TcpServer(send_blocks(blocks)) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            stopped = [connect(tunnel.local_port, receive_buffer=65536) for _ in range(8)]
            for sock in stopped:
                sock.sendall(b"x")
            with connect(tunnel.local_port) as active:
                active.sendall(b"x")
                assert fingerprint_of(active) == fingerprint(BLOCK * blocks)
            queued = [channel._pending_bytes for channel in transport._asynchronous.values()]
            assert all(count <= WINDOW for count in queued)
            assert max(queued) > 0
            for sock in stopped:
                assert fingerprint_of(sock) == fingerprint(BLOCK * blocks)
                sock.close()

    def test_a_server_that_stops_reading_stops_the_client(self, transport: TunnelTransport) -> None:
        go_on = threading.Event()
        seen: list[bytes] = []

        def read_late(sock: socket.socket) -> None:
            go_on.wait(TIMEOUT)
            seen.append(fingerprint_of(sock))

        with TcpServer(read_late) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.settimeout(0.5)
                data = BLOCK * 1600  # 100 MB: more than all buffers on the way
                with pytest.raises(TimeoutError):
                    sock.sendall(data)
                assert tunnel.counters().bytes_out < len(data)
            go_on.set()
            wait_until(lambda: seen, "the upload's end")

    def test_a_peer_that_ignores_the_window_is_cut_off(self, transport: TunnelTransport) -> None:
        ours, client = socket.socketpair()
        ours.setblocking(False)

        class Owner:
            def wake(self, channel: Any) -> None: ...
            def received(self, count: int) -> None: ...
            def sent(self, count: int) -> None: ...

        with TcpServer(swallow) as server:
            channel = transport.open_forward(Owner(), ours, ("127.0.0.1", server.port), ("127.0.0.1", 0))
            for _ in range(64):
                channel.deliver([BLOCK])
            assert channel.is_cut
            assert channel._pending_bytes == 0
            channel.cut(reset=True)
            channel.hang_up()
            transport.flush()
            client.close()
            wait_until(lambda: not transport._asynchronous, "both sides closing the channel")

    def test_the_window_is_widened_on_a_long_wire(self, sshd: SshServer, transport: TunnelTransport) -> None:
        data = os.urandom(20 * MEGABYTE)
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            sshd.freeze_connections()
            with connect(tunnel.local_port) as sock, ThreadPoolExecutor(1) as pool:
                wait_until(lambda: tunnel.counters().open_connections, "the connection")
                threading.Event().wait(0.05)  # the wire's length
                sshd.thaw_connections()
                answer = pool.submit(fingerprint_of, sock)
                sock.sendall(data)
                (channel,) = transport._asynchronous.values()
                sock.shutdown(socket.SHUT_WR)
                assert answer.result(TIMEOUT) == fingerprint(data)
                assert channel.in_window_size == LONG_WIRE_WINDOW


class TestStorms:
    def test_hundreds_of_closes_in_mid_upload(self, transport: TunnelTransport) -> None:
        with TcpServer(swallow) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)

            def close_in_mid_upload(number: int) -> None:
                sock = connect(tunnel.local_port)
                sock.setblocking(False)
                for _ in range(20):
                    try:
                        sock.send(BLOCK)
                    except BlockingIOError:
                        break
                reset(sock) if number % 2 else sock.close()

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(close_in_mid_upload, range(300)))
            assert_all_over(tunnel, transport)
        assert_still_works(transport)

    def test_hundreds_of_resets_in_mid_download(self, transport: TunnelTransport) -> None:
        with TcpServer(send_blocks(160)) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)

            def reset_in_mid_download(_number: int) -> None:
                sock = connect(tunnel.local_port)
                sock.sendall(b"x")
                assert sock.recv(65536)
                reset(sock)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(reset_in_mid_download, range(300)))
            assert_all_over(tunnel, transport)
        assert_still_works(transport)

    def test_a_thousand_short_connections(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda n: round_trip(tunnel.local_port, b"%d" % n), range(1000)))
            assert answers == [b"%d" % number for number in range(1000)]
            assert tunnel.counters().total_connections == 1000
            assert_all_over(tunnel, transport)

    def test_clients_that_go_before_the_channel_is_open(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            for _ in range(300):
                reset(connect(tunnel.local_port))
            assert_all_over(tunnel, transport)
        assert_still_works(transport)


class TestChannels:
    def test_a_refused_port_resets_that_connection_only(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel() as good, make_tunnel() as bad:
            good.attach(transport, server.port)
            bad.attach(transport, unused_port())
            with connect(good.local_port) as other:
                for _ in range(20):
                    with connect(bad.local_port) as sock:
                        assert is_reset(sock)
                other.sendall(b"ping")
                assert other.recv(4) == b"ping"
            assert transport.get_exception() is None  # nothing for another thread to stumble over

    def test_an_open_that_is_not_answered_is_given_up_and_closed_when_it_comes(
        self, sshd: SshServer, transport: TunnelTransport
    ) -> None:
        ended = threading.Event()

        def notice_end(sock: socket.socket) -> None:
            swallow(sock)
            ended.set()

        with TcpServer(notice_end) as server, make_tunnel(channel_timeout=0.3) as tunnel:
            tunnel.attach(transport, server.port)
            sshd.freeze_connections()
            try:
                with connect(tunnel.local_port) as sock:
                    assert is_reset(sock)
            finally:
                sshd.thaw_connections()
            assert ended.wait(TIMEOUT)
            assert_all_over(tunnel, transport)

    def test_connections_beyond_the_limit_are_closed_at_once(self, transport: TunnelTransport) -> None:
        with TcpServer(echo) as server, make_tunnel(max_connections=3) as tunnel:
            tunnel.attach(transport, server.port)
            kept = [connect(tunnel.local_port) for _ in range(3)]
            for sock in kept:
                sock.sendall(b"ping")
                assert sock.recv(4) == b"ping"
            with connect(tunnel.local_port) as extra:
                assert extra.recv(1) == b""
            kept.pop().close()
            wait_until(lambda: tunnel.counters().open_connections == 2, "the place to become free")
            assert round_trip(tunnel.local_port) == b"ping"
            for sock in kept:
                sock.close()

    def test_the_hook_turns_connections_away(self, transport: TunnelTransport) -> None:
        asked: list[str] = []

        def hook(sock: socket.socket) -> bool:
            asked.append(threading.current_thread().name)
            return len(asked) > 1

        with TcpServer(echo) as server, make_tunnel(accept_hook=hook) as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                assert sock.recv(1) == b""
            assert round_trip(tunnel.local_port) == b"ping"
        assert asked == ["tunnel-test", "tunnel-test"]


class TestLocalPort:
    @pytest.mark.parametrize(
        ("family", "host", "only_ipv6"),
        [
            (socket.AF_INET, "127.0.0.1", False),
            (socket.AF_INET, "0.0.0.0", False),
            (socket.AF_INET6, "::1", True),
            (socket.AF_INET6, "::", True),
            (socket.AF_INET6, "::", False),
        ],
    )
    @pytest.mark.parametrize("reuse", [False, True])
    def test_a_taken_port_is_an_error_that_names_it(
        self, family: socket.AddressFamily, host: str, only_ipv6: bool, reuse: bool
    ) -> None:
        port = unused_port()
        with socket.socket(family) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
            if family == socket.AF_INET6:
                other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
            other.bind((host, port))
            other.listen()
            with pytest.raises(LocalPortInUse, match=str(port)):
                make_tunnel(local_port=port)
        tunnel = make_tunnel(local_port=port)  # the failure has left nothing bound
        assert tunnel.local_port == port
        tunnel.stop()

    def test_it_is_ours_before_a_link_exists_and_free_after_stop(self) -> None:
        tunnel = make_tunnel()
        with pytest.raises(LocalPortInUse):
            make_tunnel(local_port=tunnel.local_port)
        tunnel.stop()
        make_tunnel(local_port=tunnel.local_port).stop()

    def test_it_can_be_had_again_after_connections(self, transport: TunnelTransport) -> None:
        with TcpServer(lambda sock: sock.sendall(b"bye")) as server:
            port = None
            for _ in range(3):
                with make_tunnel(local_port=port) as tunnel:
                    port = tunnel.local_port
                    tunnel.attach(transport, server.port)
                    with connect(port) as sock:
                        assert read_all(sock) == b"bye"


def exchange(port: int, data: bytes) -> bytes:
    """Send and receive at once, through an echo server."""
    with connect(port) as sock, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(read_all, sock)
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return answer.result(TIMEOUT)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def assert_all_over(tunnel: Tunnel, transport: TunnelTransport) -> None:
    wait_until(lambda: tunnel.counters().open_connections == 0, "every connection's end")
    wait_until(lambda: not transport._asynchronous, "both sides closing every channel")


def assert_still_works(transport: TunnelTransport) -> None:
    assert transport.is_active()
    with TcpServer(echo) as server, make_tunnel() as tunnel:
        tunnel.attach(transport, server.port)
        assert round_trip(tunnel.local_port) == b"ping"
