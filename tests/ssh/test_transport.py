"""The transport of every connection, against a real sshd."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest

from runicorn_remote.ssh.transport import AES_GCM, GCM_REKEY_BYTES, TunnelTransport, make_transport_factory
from tests.hosts.sshd import SshServer
from tests.ssh.tunnel_kit import (
    TIMEOUT,
    TcpServer,
    connect,
    echo,
    relay_through,
    ssh_client,
    swallow,
    wait_until,
)

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    directory = tmp_path_factory.mktemp("sshd")
    with SshServer(directory, host_key_types=("ed25519", "rsa", "ecdsa")) as server:
        yield server


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


class TestSettings:
    def test_aes_gcm_is_negotiated_and_rekeyed_as_openssh_does(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport:
            assert transport.remote_cipher in AES_GCM
            assert transport.packetizer.REKEY_BYTES == GCM_REKEY_BYTES

    def test_other_ciphers_keep_paramikos_threshold(self, sshd: SshServer) -> None:
        with ssh_client(sshd, disabled_algorithms={"ciphers": list(AES_GCM)}) as transport:
            assert transport.remote_cipher not in AES_GCM
            assert transport.packetizer.REKEY_BYTES == paramiko.packet.Packetizer.REKEY_BYTES

    def test_small_packets_are_not_delayed(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport:
            assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    @pytest.mark.skipif(
        not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no TCP_USER_TIMEOUT"
    )
    def test_unacknowledged_data_ends_the_connection(self, sshd: SshServer) -> None:
        with ssh_client(sshd, user_timeout=12.5) as transport:
            assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12500
        with ssh_client(sshd, user_timeout=None) as transport:
            assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0

    @pytest.mark.parametrize(
        ("stored", "negotiated"),
        [
            ((), "ssh-ed25519"),
            (("ssh-rsa",), "rsa-sha2-512"),
            (("ecdsa-sha2-nistp256", "ssh-rsa"), "ecdsa-sha2-nistp256"),
            (("nonsense", "ssh-rsa"), "rsa-sha2-512"),
        ],
    )
    def test_the_stored_host_key_type_is_asked_for_first(
        self, sshd: SshServer, stored: tuple[str, ...], negotiated: str
    ) -> None:
        with ssh_client(sshd, key_types=stored) as transport:
            assert transport.host_key_type == negotiated

    def test_preferring_a_type_loses_none(self, pair: tuple[socket.socket, socket.socket]) -> None:
        transport = make_transport_factory(key_types=("ssh-rsa",))(pair[0])
        assert sorted(transport._preferred_keys) == sorted(paramiko.Transport._preferred_keys)

    @pytest.mark.parametrize("banner", ["OpenSSH_9.9", "SSH-2.0-OpenSSH_9.9", "OpenSSH_9.9 with a comment"])
    def test_the_banner_is_what_was_asked_for(
        self, pair: tuple[socket.socket, socket.socket], banner: str
    ) -> None:
        transport = make_transport_factory(client_banner=banner)(pair[0])
        transport.start_client(event=threading.Event())
        pair[1].settimeout(TIMEOUT)
        line = pair[1].makefile("rb").readline()
        transport.close()
        assert line == f"SSH-2.0-{banner.removeprefix('SSH-2.0-')}\r\n".encode()

    @pytest.mark.parametrize("banner", ["", "two\nlines", "a-minus", " space first", "umlaut-ä", "x" * 300])
    def test_a_banner_that_ssh_does_not_allow_is_refused(self, banner: str) -> None:
        with pytest.raises(ValueError, match="client banner"):
            make_transport_factory(client_banner=banner)

    def test_the_factory_takes_what_this_paramiko_hands_it(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        arguments: dict[str, Any] = {"disabled_algorithms": {"kex": ["diffie-hellman-group14-sha256"]}}
        if "gss_kex" in inspect.signature(paramiko.Transport).parameters:
            arguments.update(gss_kex=False, gss_deleg_creds=True)
        transport = make_transport_factory()(pair[0], **arguments)
        assert "diffie-hellman-group14-sha256" not in transport.preferred_kex


class TestHandshake:
    def test_one_that_fails_leaves_no_thread(self, pair: tuple[socket.socket, socket.socket]) -> None:
        transport = make_transport_factory()(pair[0])
        pair[1].sendall(b"SSH-2.0-nobody\r\n")
        pair[1].shutdown(socket.SHUT_WR)
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.start_client(timeout=TIMEOUT)
        transport.join(TIMEOUT)
        wait_until(lambda: not timers(), "the handshake's timer ending")


class TestMessages:
    def test_in_a_key_exchange_the_transport_thread_does_not_wait_for_itself(self, sshd: SshServer) -> None:
        """A CLOSE that comes after we asked for new keys wants an answer from that very thread."""
        gate = threading.Event()
        gate.set()
        with (
            TcpServer(relay_through(gate, sshd.port)) as relay,
            ssh_client(sshd, sock=connect(relay.port)) as transport,
        ):
            session = transport.open_session(timeout=TIMEOUT)
            session.settimeout(TIMEOUT)
            session.exec_command("echo $$; exec sleep 600")
            process = int(session.recv(100))
            gate.clear()
            transport.packetizer._trigger_rekey()
            wait_until(lambda: not transport.clear_to_send.is_set(), "our request for new keys")
            os.kill(process, signal.SIGKILL)
            wait_until(lambda: session.closed, "sshd closing the channel")
            gate.set()
            began = time.monotonic()
            wait_until(transport.clear_to_send.is_set, "new keys")
            assert time.monotonic() - began < transport.clear_to_send_timeout / 2
            transport.open_session(timeout=TIMEOUT).close()

    def test_a_channel_that_is_confirmed_too_late_is_closed(self, sshd: SshServer) -> None:
        ended = threading.Event()

        def notice_end(sock: socket.socket) -> None:
            swallow(sock)
            ended.set()

        with ssh_client(sshd) as transport, TcpServer(notice_end) as server:
            sshd.freeze_connections()
            try:
                with pytest.raises(paramiko.SSHException, match="Timeout"):
                    transport.open_channel(
                        "direct-tcpip", ("127.0.0.1", server.port), ("127.0.0.1", 0), timeout=0.2
                    )
            finally:
                sshd.thaw_connections()
            assert ended.wait(TIMEOUT)
            assert transport.is_active()

    def test_ordinary_channels_work_beside(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport, TcpServer(echo) as server:
            channel = transport.open_channel(
                "direct-tcpip", ("127.0.0.1", server.port), ("127.0.0.1", 0), timeout=TIMEOUT
            )
            channel.settimeout(TIMEOUT)
            channel.sendall(b"ping")
            assert channel.recv(4) == b"ping"
            channel.close()

    def test_a_refused_ordinary_channel_says_so(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            with pytest.raises(paramiko.ChannelException):
                transport.open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 0), timeout=TIMEOUT)

    def test_of_refusals_at_once_none_is_lost(self, sshd: SshServer) -> None:
        reasons: list[int] = []

        def ask() -> None:
            for _ in range(20):
                with pytest.raises(paramiko.ChannelException) as caught:
                    transport.open_channel(
                        "direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 0), timeout=TIMEOUT
                    )
                reasons.append(caught.value.code)

        with ssh_client(sshd) as transport:
            threads = [threading.Thread(target=ask, name=f"ask-{number}") for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT)
            assert not transport._refusals
            assert not transport.channel_events
        assert reasons == [2] * 160  # RFC 4254, 5.1: the connection failed

    def test_old_channel_numbers_are_forgotten(
        self, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules[TunnelTransport.__module__], "_REMEMBERED_CHANNELS", 10)

        class Owner:
            def wake(self, channel: Any) -> None: ...
            def received(self, count: int) -> None: ...
            def sent(self, count: int) -> None: ...

        with ssh_client(sshd) as transport:
            before = len(transport.channels_seen)
            for _ in range(50):
                ours, theirs = socket.socketpair()
                channel = transport.open_forward(Owner(), ours, ("127.0.0.1", 1), ("127.0.0.1", 0))
                wait_until(lambda channel=channel: channel.refused, "the refusal")
                channel.cut(reset=True)
                theirs.close()
            assert len(transport.channels_seen) <= before + 11

    def test_the_numbers_of_commands_are_forgotten_too(
        self, sshd: SshServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.modules[TunnelTransport.__module__], "_REMEMBERED_CHANNELS", 10)
        with ssh_client(sshd) as transport:
            lasting = transport.open_session(timeout=TIMEOUT)
            for _ in range(50):
                transport.open_session(timeout=TIMEOUT).close()
            assert len(transport.channels_seen) < 40  # those whose end is still to come stay
            assert lasting.chanid in transport.channels_seen
            lasting.exec_command("echo still there")
            assert lasting.makefile().read() == b"still there\n"


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
