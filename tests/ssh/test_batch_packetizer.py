"""Packets in batches: against paramiko's own `Packetizer`, and against a real sshd."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from paramiko.common import MSG_CHANNEL_DATA, MSG_CHANNEL_EOF, MSG_NEWKEYS
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer

from runicorn_remote.ssh import batch_packetizer, packetizer_support
from runicorn_remote.ssh.batch_packetizer import BatchPacketizer
from runicorn_remote.ssh.transport import TunnelTransport
from runicorn_remote.ssh.tunnel import Tunnel
from tests.hosts.sshd import SshServer
from tests.ssh.tunnel_kit import (
    TIMEOUT,
    TcpServer,
    connect,
    echo,
    fingerprint,
    fingerprint_of,
    is_reset,
    round_trip,
    send_blocks,
    ssh_client,
    swallow,
    wait_until,
)

MEGABYTE = 1 << 20
KEY, NONCE = bytes(range(16)), bytes(range(12))
SINKS = (3, 7)  # the channels that the tests' readers forward


class Wire:
    """A socket as paramiko uses it: hands out `chunks`, one a read, then the end; keeps what is sent."""

    def __init__(self, chunks: Sequence[bytes] = ()) -> None:
        self._chunks = [chunk for chunk in chunks if chunk]
        self.sent = bytearray()

    def recv_into(self, buffer: memoryview) -> int:
        chunk = self.recv(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def recv(self, size: int) -> bytes:
        if not self._chunks:
            return b""
        chunk, self._chunks[0] = self._chunks[0][:size], self._chunks[0][size:]
        if not self._chunks[0]:
            self._chunks.pop(0)
        return chunk

    def send(self, data: bytes, _flags: int = 0) -> int:
        self.sent += data
        return len(data)


class Sink:
    def __init__(self, deliver: Callable[[bytes], None]) -> None:
        self._deliver = deliver

    def deliver(self, chunks: Sequence[memoryview]) -> None:
        self._deliver(b"".join(chunks))


def data_message(chanid: int, data: bytes) -> Message:
    message = Message()
    message.add_byte(bytes([MSG_CHANNEL_DATA]))
    message.add_int(chanid)
    message.add_string(data)
    return message


def other_message(chanid: int) -> Message:
    message = Message()
    message.add_byte(bytes([MSG_CHANNEL_EOF]))
    message.add_int(chanid)
    return message


def sealed(messages: Sequence[Message]) -> bytes:
    """As paramiko puts them on the wire."""
    wire: Any = Wire()
    packetizer: Any = Packetizer(wire)
    packetizer.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=NONCE)
    for message in messages:
        packetizer.send_message(message)
    return bytes(wire.sent)


def make_reader(chunks: Sequence[bytes], packetizer_class: Any = BatchPacketizer) -> Any:
    reader = packetizer_class(Wire(chunks))
    reader.set_inbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_in=NONCE)
    return reader


Event = tuple[Any, ...]


def read_in_batches(chunks: Sequence[bytes]) -> tuple[list[Event], Exception]:
    """-> what came out of it, in order, and what ended it."""
    events: list[Event] = []
    reader = make_reader(chunks)
    sinks = {chanid: Sink(lambda data, n=chanid: events.append(("data", n, data))) for chanid in SINKS}
    reader.find_sink = sinks.get
    try:
        while True:
            number, message = reader.read_message()
            events.append(("message", number, message.asbytes(), message.seqno))
    except (EOFError, paramiko.SSHException) as error:
        return events, error


def read_as_paramiko(chunks: Sequence[bytes]) -> list[Event]:
    events: list[Event] = []
    reader = make_reader(chunks, Packetizer)
    try:
        while True:
            number, message = reader.read_message()
            body, seqno = message.asbytes(), message.seqno
            chanid = message.get_int()
            if number == MSG_CHANNEL_DATA and chanid in SINKS:
                events.append(("data", chanid, message.get_binary()))
            else:
                events.append(("message", number, body, seqno))
    except EOFError:
        return events


def normalised(events: Sequence[Event]) -> list[Event]:
    """Between two messages, only the order within a channel counts."""
    result: list[Event] = []
    streams: dict[int, bytes] = {}
    for event in (*events, ("message", None, b"", None)):
        if event[0] == "data":
            streams[event[1]] = streams.get(event[1], b"") + event[2]
        else:
            result += [("data", chanid, data) for chanid, data in sorted(streams.items()) if data]
            result.append(event)
            streams = {}
    return result


SOME = [
    data_message(3, b"first"),
    data_message(7, b"x" * 100),
    data_message(3, b"second"),
    other_message(3),
    data_message(7, b""),
    data_message(9, b"of no sink"),
    data_message(7, b"last"),
]

messages = st.lists(
    st.one_of(
        st.builds(
            lambda chanid, size, seed: data_message(chanid, bytes([seed]) * size),
            st.sampled_from((*SINKS, 9)),
            st.one_of(st.integers(0, 100), st.integers(30_000, 33_000), st.just(200_000)),
            st.integers(0, 255),
        ),
        st.builds(other_message, st.sampled_from((*SINKS, 9))),
    ),
    max_size=30,
)


def chopped(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(edges)]


class TestReading:
    def test_split_anywhere(self) -> None:
        stream = sealed(SOME)
        expected = normalised(read_as_paramiko([stream]))
        for position in range(len(stream) + 1):
            events, ending = read_in_batches([stream[:position], stream[position:]])
            assert normalised(events) == expected
            assert isinstance(ending, EOFError)

    def test_byte_by_byte(self) -> None:
        stream = sealed(SOME)
        events, _ = read_in_batches([stream[at : at + 1] for at in range(len(stream))])
        assert normalised(events) == normalised(read_as_paramiko([stream]))

    @settings(max_examples=60, deadline=None)
    @given(messages, st.lists(st.integers(0), max_size=40))
    def test_it_reads_what_paramiko_reads(self, sent: list[Message], cuts: list[int]) -> None:
        stream = sealed(sent)
        events, ending = read_in_batches(chopped(stream, cuts))
        assert normalised(events) == normalised(read_as_paramiko([stream]))
        assert isinstance(ending, EOFError)

    def test_without_decryption_into_a_buffer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As with an older `cryptography`."""
        monkeypatch.setattr(batch_packetizer, "_DECRYPTS_INTO", False)
        stream = sealed(SOME)
        assert normalised(read_in_batches([stream])[0]) == normalised(read_as_paramiko([stream]))

    def test_several_packets_are_one_delivery(self) -> None:
        events, _ = read_in_batches([sealed([data_message(n % 2 * 4 + 3, b"%d" % n) for n in range(10)])])
        assert events == [("data", 3, b"02468"), ("data", 7, b"13579")]

    def test_truncated_anywhere_is_the_end_after_what_is_whole(self) -> None:
        whole = normalised(read_in_batches([sealed(SOME)])[0])
        stream = sealed(SOME)
        for length in range(len(stream)):
            events, ending = read_in_batches([stream[:length]])
            assert isinstance(ending, EOFError)
            bodies = [event for event in normalised(events) if event[0] == "message" and event[1] is not None]
            assert all(event in whole for event in bodies)
            delivered = b"".join(event[2] for event in events if event[:2] == ("data", 3))
            assert b"firstsecond".startswith(delivered)

    def test_a_changed_bit_anywhere_is_an_error_and_nothing_of_that_packet_gets_through(self) -> None:
        stream = sealed(SOME)
        before = len(sealed(SOME[:3]))
        damaged = len(sealed(SOME[:4])) - before
        for position in range(damaged):
            changed = bytearray(stream)
            changed[before + position] ^= 1 << position % 8
            events, ending = read_in_batches([bytes(changed[:before]), bytes(changed[before:])])
            # A longer length means waiting for bytes that never come.
            assert isinstance(ending, (paramiko.SSHException, EOFError)), position
            assert position < 4 or "MAC" in str(ending)
            assert not [event for event in events if event[0] == "message"]

    @pytest.mark.parametrize("length", [0, 1, 15, 256 * 1024 + 1, 0xFFFFFFFF])
    def test_absurd_lengths(self, length: int) -> None:
        _, ending = read_in_batches([length.to_bytes(4, "big") + bytes(64)])
        assert "Invalid packet length" in str(ending)

    @pytest.mark.parametrize("claimed", [0, 4, 6, 1000, 0xFFFFFFFF])
    def test_a_length_of_data_that_is_not_that_of_the_packet_reaches_no_client(self, claimed: int) -> None:
        """The rest of the buffer holds what was decrypted for others."""
        message = Message(data_message(3, b"12345").asbytes()[:5] + claimed.to_bytes(4, "big") + b"12345")
        events, _ = read_in_batches([sealed([message])])
        assert [event[:2] for event in events] == [("message", MSG_CHANNEL_DATA)]

    def test_absurd_padding(self) -> None:
        packet = bytes([250]) + bytes(31)
        length = len(packet).to_bytes(4, "big")
        _, ending = read_in_batches([length + AESGCM(KEY).encrypt(NONCE, packet, length)])
        assert "Invalid padding length" in str(ending)

    def test_sequence_numbers_wrap(self) -> None:
        reader = make_reader([sealed([other_message(1), other_message(2)])])
        reader._initial_kex_done = True
        reader._Packetizer__sequence_number_in = 0xFFFFFFFF
        assert [reader.read_message()[1].seqno for _ in range(2)] == [0xFFFFFFFF, 0]

    def test_they_must_not_in_the_first_key_exchange(self) -> None:
        """As an attack on it would need (CVE-2023-48795)."""
        reader = make_reader([sealed([other_message(1)])])
        reader._Packetizer__sequence_number_in = 0xFFFFFFFF
        with pytest.raises(paramiko.SSHException, match="rolled over"):
            reader.read_message()

    def test_it_asks_for_new_keys_once_and_does_not_wait_for_them_for_ever(self) -> None:
        packets = [data_message(3, bytes(1000))] * 6
        stream, first_two = sealed(packets), len(sealed(packets[:2]))
        reader = make_reader([stream[:first_two], stream[first_two:]])
        reader.REKEY_BYTES, reader.REKEY_BYTES_OVERFLOW_MAX = 1000, 3000
        taken: list[bytes] = []
        reader.find_sink = {3: Sink(taken.append)}.get
        with pytest.raises(NeedRekeyException):
            reader.read_message()
        assert taken == [bytes(2000)]
        with pytest.raises(paramiko.SSHException, match="ignoring rekey"):
            reader.read_message()


class TestWriting:
    @settings(max_examples=30, deadline=None)
    @given(messages)
    def test_paramiko_reads_what_it_posts(self, sent: list[Message]) -> None:
        packetizer, wire = make_writer()
        for message in sent:
            packetizer.post(message)
        packetizer.push()
        assert opened(bytes(wire.sent)) == [message.asbytes() for message in sent]

    def test_posts_count_towards_new_keys(self) -> None:
        packetizer, _ = make_writer()
        packetizer.REKEY_BYTES = 1000
        packetizer.post(data_message(3, bytes(900)))
        assert not packetizer.need_rekey()
        packetizer.post(data_message(3, bytes(900)))
        assert packetizer.need_rekey()

    def test_their_numbers_wrap_but_not_in_the_first_key_exchange(self) -> None:
        packetizer, _ = make_writer()
        packetizer._Packetizer__sequence_number_out = 0xFFFFFFFF
        with pytest.raises(paramiko.SSHException, match="rolled over"):
            packetizer.post(SOME[0])
        packetizer._initial_kex_done = True
        packetizer.post(SOME[0])
        assert packetizer._Packetizer__sequence_number_out == 0

    def test_what_was_posted_goes_out_together(self) -> None:
        packetizer, wire = make_writer()
        for message in SOME:
            packetizer.post(message)
        assert not wire.sent
        assert packetizer.unsent_bytes
        packetizer.push()
        assert (packetizer.unsent_bytes, packetizer.is_full) == (0, False)
        assert opened(bytes(wire.sent)) == [message.asbytes() for message in SOME]

    def test_and_before_what_is_sent_after(self) -> None:
        packetizer, wire = make_writer()
        packetizer.post(SOME[0])
        packetizer.send_message(SOME[1])
        assert opened(bytes(wire.sent)) == [message.asbytes() for message in SOME[:2]]

    def test_a_full_socket_is_not_waited_for(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            packetizer = BatchPacketizer(ours)
            packetizer.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=NONCE)
            sent = [data_message(3, bytes([n % 256]) * 30_000) for n in range(200)]
            for message in sent:
                packetizer.post(message)
                packetizer.push()
            assert packetizer.is_full
            received = bytearray()
            theirs.settimeout(TIMEOUT)
            while packetizer.unsent_bytes:
                received += theirs.recv(MEGABYTE)
                packetizer.push()
            assert not packetizer.is_full
            ours.shutdown(socket.SHUT_WR)
            while more := theirs.recv(MEGABYTE):
                received += more
            assert opened(bytes(received)) == [message.asbytes() for message in sent]

    def test_nor_somebody_who_waits_for_it(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, ThreadPoolExecutor(1) as pool:
            packetizer = BatchPacketizer(ours)
            packetizer.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=NONCE)
            sent = [data_message(3, bytes(200_000)) for _ in range(20)]
            writer = pool.submit(lambda: [packetizer.send_message(message) for message in sent])
            wait_until(lambda: packetizer.is_full, "the writer waiting")
            packetizer.push()
            assert not writer.done()
            reader = make_reader([], Packetizer)
            reader._Packetizer__socket = theirs
            theirs.settimeout(TIMEOUT)
            for message in sent:
                assert reader.read_message()[1].asbytes() == message.asbytes()[1:]
            writer.result(TIMEOUT)


def opened(stream: bytes) -> list[bytes]:
    """The messages, as paramiko reads them."""
    reader = make_reader([stream], Packetizer)
    result = []
    with contextlib.suppress(EOFError):
        while True:
            number, message = reader.read_message()
            result.append(bytes([number]) + message.asbytes())
    return result


def make_writer() -> tuple[BatchPacketizer, Wire]:
    wire: Any = Wire()
    packetizer = BatchPacketizer(wire)
    packetizer.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=NONCE)
    return packetizer, wire


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def make_tunnel(**options: Any) -> Tunnel:
    return Tunnel("test", local_port=None, max_connections=1000, channel_timeout=TIMEOUT, **options)


def exchange(transport: TunnelTransport, data: bytes) -> bytes:
    """Through an echo server, both ways at once. -> the fingerprint of what came back."""
    with TcpServer(echo) as server, make_tunnel() as tunnel, ThreadPoolExecutor(1) as pool:
        tunnel.attach(transport, server.port)
        with connect(tunnel.local_port) as sock:
            answer = pool.submit(fingerprint_of, sock)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return answer.result(TIMEOUT)


@pytest.mark.sshd
class TestAgainstSshd:
    @pytest.mark.parametrize(
        ("cipher", "mac"),
        [
            ("aes128-gcm@openssh.com", None),
            ("aes256-gcm@openssh.com", None),
            ("aes128-ctr", "hmac-sha2-256"),
            ("aes256-ctr", "hmac-sha2-512-etm@openssh.com"),
            ("aes192-ctr", "hmac-sha2-256-etm@openssh.com"),
        ],
    )
    @pytest.mark.parametrize("compress", [False, True])
    def test_bytes_and_new_keys_from_both_sides(
        self, tmp_path: Path, cipher: str, mac: str | None, compress: bool
    ) -> None:
        options = {"Ciphers": cipher, "RekeyLimit": "2M", **({"MACs": mac} if mac else {})}
        data = os.urandom(4 * MEGABYTE)
        with (
            SshServer(tmp_path, options=options) as server,
            ssh_client(server, compress=compress) as transport,
        ):
            assert isinstance(transport.packetizer, BatchPacketizer)
            assert transport.agreed_on_strict_kex
            assert transport.remote_cipher == cipher
            assert (transport.remote_compression != "none") == compress
            transport.packetizer.REKEY_BYTES = 3 * MEGABYTE
            first_keys = transport.H
            assert exchange(transport, data) == fingerprint(data)
            assert first_keys == transport.session_id
            assert first_keys != transport.H
            assert transport.is_active()

    def test_without_batches(self, sshd: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packetizer_support, "is_supported", lambda: False)
        data = os.urandom(4 * MEGABYTE)
        with ssh_client(sshd) as transport:
            assert type(transport.packetizer) is Packetizer
            assert exchange(transport, data) == fingerprint(data)

    def test_a_damaged_packet_ends_the_link(self, sshd: SshServer) -> None:
        damage = threading.Event()
        lost: list[TunnelTransport] = []
        with (
            TcpServer(damaging_relay(damage, sshd.port)) as relay,
            ssh_client(sshd, sock=connect(relay.port)) as transport,
            TcpServer(send_blocks(16000)) as server,
            make_tunnel(on_link_lost=lost.append) as tunnel,
        ):
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port) as sock:
                sock.sendall(b"x")
                assert sock.recv(65536)
                damage.set()
                assert is_reset(sock)
            wait_until(lambda: lost, "the loss being reported")
            assert isinstance(transport.saved_exception, paramiko.SSHException)
            transport.join(TIMEOUT)
            assert not transport.is_alive()

    def test_data_in_a_key_exchange_is_for_paramikos_loop_which_refuses_it(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport, TcpServer(swallow) as server, make_tunnel() as tunnel:
            tunnel.attach(transport, server.port)
            with connect(tunnel.local_port):
                wait_until(lambda: transport._asynchronous, "the channel")
                (chanid,) = transport._asynchronous
                assert transport._find_sink(chanid)
                transport._expected_packet = (MSG_NEWKEYS,)
                assert transport._find_sink(chanid) is None
                transport._expected_packet = ()

    def test_keepalives_are_sent_on_an_idle_connection(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport:
            before = transport.packetizer._Packetizer__sequence_number_out
            transport.set_keepalive(1)
            wait_until(
                lambda: transport.packetizer._Packetizer__sequence_number_out > before, "the first keepalive"
            )

    def test_new_keys_are_asked_for_on_an_idle_connection(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport, TcpServer(echo) as server, make_tunnel() as tunnel:
            first_keys = transport.H
            transport.packetizer._trigger_rekey()
            wait_until(lambda: first_keys != transport.H and transport.clear_to_send.is_set(), "new keys")
            tunnel.attach(transport, server.port)
            assert round_trip(tunnel.local_port) == b"ping"

    def test_closing_ends_its_thread_at_once(self, sshd: SshServer) -> None:
        with ssh_client(sshd) as transport:
            began = time.monotonic()
            transport.close()
            transport.join(TIMEOUT)
            assert not transport.is_alive()
            assert time.monotonic() - began < TIMEOUT / 2

    def test_a_peer_that_falls_silent_in_the_handshake(self) -> None:
        def greet_only(sock: socket.socket) -> None:
            sock.sendall(b"SSH-2.0-nobody\r\n")
            swallow(sock)

        with TcpServer(greet_only) as server:
            transport = TunnelTransport(connect(server.port))
            transport.handshake_timeout = 0.3
            with pytest.raises((EOFError, paramiko.SSHException)):
                transport.start_client(timeout=TIMEOUT)
            transport.join(TIMEOUT)
            assert not transport.is_alive()

    def test_what_comes_with_the_banner_is_read(self, sshd: SshServer) -> None:
        """A relay that sends the banner and the first packet in one piece."""
        with (
            TcpServer(late_relay(sshd.port)) as relay,
            ssh_client(sshd, sock=connect(relay.port)) as transport,
        ):
            assert transport.is_active()


def damaging_relay(damage: threading.Event, port: int) -> Callable[[socket.socket], None]:
    """A handler that carries bytes to `port` and back; after `damage`, the next from there are changed."""

    def handle(sock: socket.socket) -> None:
        with connect(port) as upstream:
            upstream.settimeout(None)

            def back() -> None:
                try:
                    while data := upstream.recv(65536):
                        sock.sendall(bytes([data[0] ^ 1]) + data[1:] if damage.is_set() else data)
                except OSError:
                    pass

            thread = threading.Thread(target=back, name="test-relay", daemon=True)
            thread.start()
            try:
                while data := sock.recv(65536):
                    upstream.sendall(data)
            finally:
                upstream.shutdown(socket.SHUT_RDWR)
                thread.join(TIMEOUT)

    return handle


def late_relay(port: int) -> Callable[[socket.socket], None]:
    """A handler that carries bytes to `port` and back, but the first from there only with the second."""

    def handle(sock: socket.socket) -> None:
        with connect(port) as upstream:
            upstream.settimeout(None)

            def back() -> None:
                try:
                    kept = upstream.recv(65536)
                    while kept.count(b"\n") < 1 or len(kept) < 100:
                        kept += upstream.recv(65536)
                    sock.sendall(kept)
                    while data := upstream.recv(65536):
                        sock.sendall(data)
                except OSError:
                    pass

            thread = threading.Thread(target=back, name="test-relay", daemon=True)
            thread.start()
            try:
                while data := sock.recv(65536):
                    upstream.sendall(data)
            finally:
                upstream.shutdown(socket.SHUT_RDWR)
                thread.join(TIMEOUT)

    return handle
