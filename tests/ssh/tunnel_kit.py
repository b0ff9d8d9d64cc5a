"""What tests of tunnels are made of: a server to reach, clients, and a connection to go through."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import paramiko

from runicorn_remote.ssh.transport import TunnelTransport, make_transport_factory
from tests.hosts.sshd import SshServer

TIMEOUT = 30.0  # generous: a test that gets there has failed
BLOCK = bytes(range(256)) * 256


class TcpServer:
    """Calls `handle(sock)` in a thread for every connection; closes the socket after it. Ends all with it."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="test-server", daemon=True)

    def __enter__(self) -> TcpServer:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.add(sock)
                thread = threading.Thread(target=self._serve, args=(sock,), name="test-client", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._handle(sock)
        finally:
            self._sockets.discard(sock)
            sock.close()


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def answer_length_and_digest(sock: socket.socket) -> None:
    """Reads to the end, then answers what it read: half close towards the server."""
    sock.sendall(fingerprint_of(sock))


def send_blocks(count: int) -> Callable[[socket.socket], None]:
    """A handler that waits for one byte, then sends `count` blocks of 64 KiB."""

    def handle(sock: socket.socket) -> None:
        sock.recv(1)
        for _ in range(count):
            sock.sendall(BLOCK)

    return handle


def swallow(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def relay_through(gate: threading.Event, port: int) -> Callable[[socket.socket], None]:
    """A handler that carries bytes to `port` while `gate` is open, and bytes from there always."""

    def carry(source: socket.socket, target: socket.socket, gate: threading.Event | None = None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if gate is not None:
                    gate.wait(TIMEOUT)
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def handle(sock: socket.socket) -> None:
        with connect(port) as upstream:
            upstream.settimeout(None)
            back = threading.Thread(target=carry, args=(upstream, sock), name="test-relay", daemon=True)
            back.start()
            carry(sock, upstream, gate)
            back.join(TIMEOUT)

    return handle


def fingerprint_of(sock: socket.socket) -> bytes:
    """Reads `sock` to its end."""
    digest, length = hashlib.sha256(), 0
    while data := sock.recv(1 << 20):
        digest.update(data)
        length += len(data)
    return f"{length} {digest.hexdigest()}".encode()


def fingerprint(data: bytes) -> bytes:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}".encode()


def read_all(sock: Any) -> bytes:
    chunks = []
    while data := sock.recv(1 << 20):
        chunks.append(data)
    return b"".join(chunks)


def connect(port: int, host: str = "127.0.0.1", receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(TIMEOUT)
    try:
        sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock: socket.socket) -> bool:
    """-> True: the connection was reset; False: it was closed cleanly."""
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False


def round_trip(port: int, data: bytes = b"ping") -> bytes:
    """Through an echo server."""
    with connect(port) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        pause.wait(0.005)


@contextlib.contextmanager
def ssh_client(
    server: SshServer,
    sock: Any = None,
    disabled_algorithms: dict[str, list[str]] | None = None,
    compress: bool = False,
    **factory: Any,
) -> Iterator[TunnelTransport]:
    """A logged-in connection that has run a command."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.MissingHostKeyPolicy())
    try:
        client.connect(
            server.host,
            server.port,
            server.username,
            pkey=paramiko.Ed25519Key.from_private_key_file(str(server.client_key)),
            allow_agent=False,
            look_for_keys=False,
            timeout=TIMEOUT,
            sock=sock,
            disabled_algorithms=disabled_algorithms,
            compress=compress,
            transport_factory=make_transport_factory(**factory),
        )
        transport = client.get_transport()
        assert isinstance(transport, TunnelTransport)
        session = transport.open_session(timeout=TIMEOUT)
        session.exec_command("true")
        assert session.recv_exit_status() == 0
        session.close()
        yield transport
    finally:
        transport = client.get_transport()
        client.close()
        if transport is not None:
            transport.join(TIMEOUT)
