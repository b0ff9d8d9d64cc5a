"""Who owns the other end of a loopback connection."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runicorn_remote.peers import Peer, PeerCheck, owner_of

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="/proc/net/tcp is Linux's")
NOBODY = 65534


@pytest.fixture(params=["the kernel asked", "the kernel's list"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to find an owner, with the same tests."""
    if request.param == "the kernel's list":
        monkeypatch.delattr(socket, "AF_NETLINK")


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError as error:
            pytest.skip(f"this machine has no {request.param}: {error}")
        listener.listen()
        listener.settimeout(10)
        yield listener


def test_our_own_connection_is_ours(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()[:2], 10), listener.accept()[0] as accepted:
        remote, local = accepted.getpeername(), accepted.getsockname()
        assert owner_of(Peer((remote[0], remote[1]), local[1], local[0])) == os.geteuid()
        assert owner_of(Peer((remote[0], remote[1]), local[1])) == os.geteuid()
        assert PeerCheck().allows_socket(accepted)


def test_an_ipv4_connection_from_an_ipv6_socket_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_INET6) as client:
        client.settimeout(10)
        try:
            client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6: {error}")
        with listener.accept()[0] as accepted:
            assert PeerCheck().allows_socket(accepted)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as somebody else")
def test_another_user_is_refused_unless_listed(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    # Not create_connection: as nobody the interpreter may not be able to import what it needs.
    program = (
        f"import os, socket; os.setuid({NOBODY}); s = socket.socket({int(listener.family)});"
        f"s.connect(({host!r}, {port})); s.recv(1)"
    )
    with subprocess.Popen([sys.executable, "-c", program]), listener.accept()[0] as accepted:
        assert not PeerCheck().allows_socket(accepted)
        assert PeerCheck([str(NOBODY)]).allows_socket(accepted)
        assert PeerCheck(["nobody"]).allows_socket(accepted)
        assert PeerCheck(enabled=False).allows_socket(accepted)


def test_a_connection_that_is_not_there_is_refused() -> None:
    assert not PeerCheck().allows(Peer(("127.0.0.1", 1), 2))
    assert not PeerCheck().allows(Peer(("127.0.0.1", 1), 2, "127.0.0.1"))


def test_what_is_left_of_a_connection_is_nobodys(listener: socket.socket) -> None:
    socket.create_connection(listener.getsockname()[:2], 10).close()
    with listener.accept()[0] as accepted:
        # Its row says user 0: a server that runs as root must not take that for root.
        assert not PeerCheck().allows_socket(accepted)


def test_who_listens_at_the_port_of_a_stranger_is_not_the_stranger(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    assert not PeerCheck().allows(Peer((host, port), 2, host))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as somebody else")
def test_one_client_port_to_two_addresses_of_ours() -> None:
    """Both connections look alike but for our own address. Who asks for less is told nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.2", first.getsockname()[1])) as second,
        socket.socket() as mine,
    ):
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind(("127.0.0.1", 0))
        mine.connect(first.getsockname())
        remote, port = mine.getsockname(), first.getsockname()[1]
        second.settimeout(10)
        program = (
            f"import os, socket; os.setuid({NOBODY}); s = socket.socket();"
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
            f"s.bind({remote!r}); s.connect({second.getsockname()!r}); s.recv(1)"
        )
        with subprocess.Popen([sys.executable, "-c", program]), second.accept()[0] as theirs:
            assert theirs.getpeername() == remote
            assert owner_of(Peer(remote, port, "127.0.0.1")) == os.geteuid()
            assert owner_of(Peer(remote, port, "127.0.0.2")) == NOBODY
            assert owner_of(Peer(remote, port)) is None


def test_other_machines_are_the_tokens_business() -> None:
    assert PeerCheck().allows(Peer(("192.0.2.1", 1), 2))


def test_the_users_of_a_unix_socket() -> None:
    stranger = os.geteuid() + 1
    assert PeerCheck().allows_user(os.geteuid())
    assert PeerCheck().allows_user(None)
    assert not PeerCheck().allows_user(stranger)
    assert PeerCheck([str(stranger)]).allows_user(stranger)
    assert PeerCheck(enabled=False).allows_user(stranger)


def test_an_unknown_user_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no user 'nobody-here'"):
        PeerCheck(["nobody-here"])
