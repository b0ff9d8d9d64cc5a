"""Who shares a connection, who waits for whom, and when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from runicorn_remote.errors import AuthenticationFailed, Busy, LinkLost
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.pool import ConnectionPool
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer
from tests.ssh.tunnel_kit import TIMEOUT, wait_until

pytestmark = pytest.mark.sshd

Opener = Callable[[Target, Credentials], RemoteHost]


def make_pool(opener: Opener, **changes: float) -> ConnectionPool:
    settings = {"open_timeout": 20.0, "check_timeout": 5.0, "max_connections": 5, **changes}
    return ConnectionPool(opener, **settings)  # type: ignore[arg-type]


@pytest.fixture
def pool(connector: Connector) -> Iterator[ConnectionPool]:
    pool = make_pool(connector)
    yield pool
    pool.close()


@pytest.fixture
def by_text(sshd: SshServer) -> Credentials:
    """The same account, proved otherwise."""
    return Credentials(private_key=sshd.client_key.read_text())


def logins(server: SshServer) -> int:
    return server.log().count("Accepted ")


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """What `work` returned or raised, all started at once."""
    results: list[object] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait(TIMEOUT)
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), name=f"work-{number}") for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    return results


def test_eight_at_once_are_one_login(
    pool: ConnectionPool, sshd: SshServer, target: Target, credentials: Credentials
) -> None:
    before = logins(sshd)
    hosts = in_threads(8, lambda number: pool.open(target, credentials, f"holder-{number}"))
    assert len(set(map(id, hosts))) == 1
    assert isinstance(hosts[0], RemoteHost)
    assert hosts[0].run_script("echo hello", timeout=10).stdout == b"hello\n"
    assert logins(sshd) == before + 1
    assert len(pool) == 1


def test_other_credentials_get_another_connection(
    pool: ConnectionPool, target: Target, credentials: Credentials, by_text: Credentials
) -> None:
    first, second = pool.open(target, credentials, "a"), pool.open(target, by_text, "a")
    assert first is not second
    assert len(pool) == 2
    pool.release(first, "a")
    assert not first.connected
    assert second.connected
    with pytest.raises(AuthenticationFailed):
        pool.open(target, Credentials(password="wrong"), "a")
    assert second.connected


def test_the_last_holder_closes_it(pool: ConnectionPool, target: Target, credentials: Credentials) -> None:
    host = pool.open(target, credentials, "a")
    assert pool.open(target, credentials, "a") is host, "a holder holds once"
    assert pool.open(target, credentials, "b") is host
    pool.hold(host, "c")
    for holder in ("nobody", "a", "a", "b"):
        pool.release(host, holder)
        assert host.connected
    pool.release(host, "c")
    assert not host.connected
    assert len(pool) == 0
    pool.release(host, "c")
    with pytest.raises(LinkLost):
        pool.hold(host, "d")


def test_a_dead_connection_is_replaced(
    pool: ConnectionPool, sshd: SshServer, target: Target, credentials: Credentials
) -> None:
    dead = pool.open(target, credentials, "a")
    sshd.kill_connections()
    wait_until(lambda: not dead.connected, "the loss is noticed")
    alive = pool.open(target, credentials, "b", for_command=True)
    assert alive is not dead
    assert alive.run_script("echo hello", timeout=10).stdout == b"hello\n"
    with pytest.raises(LinkLost):
        pool.hold(dead, "c")
    pool.release(dead, "a")
    assert alive.connected, "whoever held the dead one has no say about the new one"


def test_a_frozen_connection_is_replaced(
    connector: Connector, sshd: SshServer, target: Target, credentials: Credentials
) -> None:
    pool = make_pool(connector, check_timeout=0.3)
    frozen = pool.open(target, credentials, "a")
    sshd.freeze_connections()
    try:
        assert frozen.connected, "nothing shows it yet"
        alive = pool.open(target, credentials, "b")
        assert alive is not frozen
        assert not frozen.connected
        assert alive.run_script("echo hello", timeout=10).stdout == b"hello\n"
    finally:
        sshd.thaw_connections()
        pool.close()


def test_a_failed_login_leaves_nothing_and_the_next_one_works(
    pool: ConnectionPool, target: Target, credentials: Credentials
) -> None:
    results = in_threads(3, lambda number: pool.open(target, Credentials(password="wrong"), "a"))
    assert [type(result) for result in results] == [AuthenticationFailed] * 3
    assert len(pool) == 0
    assert pool.open(target, credentials, "a").connected


def test_there_is_a_limit(connector: Connector, target: Target, credentials: Credentials) -> None:
    pool = make_pool(connector, max_connections=1)
    host = pool.open(target, credentials, "a")
    with pytest.raises(Busy) as caught:
        pool.open(Target(target.host, target.port, "other"), credentials, "a")
    assert caught.value.code == "TOO_MANY_CONNECTIONS"
    assert pool.open(target, credentials, "b") is host
    pool.close()


# --- openings that take their time


class SlowOpener:
    """Waits for `go` before it logs in."""

    def __init__(self, connector: Connector) -> None:
        self.go = threading.Event()
        self.begun: list[Target] = []
        self._connector = connector

    def __call__(self, target: Target, credentials: Credentials) -> RemoteHost:
        self.begun.append(target)
        assert self.go.wait(TIMEOUT)
        return self._connector(target, credentials)


@pytest.fixture
def slow(connector: Connector) -> SlowOpener:
    return SlowOpener(connector)


def test_whoever_waits_for_too_long_is_told(
    slow: SlowOpener, target: Target, credentials: Credentials
) -> None:
    pool = make_pool(slow, open_timeout=0.1)
    opening = threading.Thread(target=pool.open, args=(target, credentials, "a"), name="opening")
    opening.start()
    wait_until(lambda: slow.begun, "the login begins")
    with pytest.raises(Busy) as caught:
        pool.open(target, credentials, "b")
    assert caught.value.code == "LOGIN_IN_PROGRESS"
    slow.go.set()
    opening.join(TIMEOUT)
    assert len(slow.begun) == 1
    pool.close()


def test_another_target_never_waits(slow: SlowOpener, target: Target, credentials: Credentials) -> None:
    stuck = Target("stuck.invalid", 22, "me")

    def opener(wanted: Target, given: Credentials) -> RemoteHost:
        return slow(wanted, given) if wanted == stuck else slow._connector(wanted, given)

    pool = make_pool(opener)
    results: list[object] = []

    def open_stuck() -> None:
        try:
            pool.open(stuck, credentials, "a")
        except Exception as error:
            results.append(error)

    opening = threading.Thread(target=open_stuck, name="opening")
    opening.start()
    wait_until(lambda: slow.begun, "the login begins")
    assert pool.open(target, credentials, "a").connected
    assert opening.is_alive(), "that login still hangs"
    assert results == []
    slow.go.set()
    opening.join(TIMEOUT)
    assert len(results) == 1
    pool.close()


def test_closing_while_somebody_logs_in(slow: SlowOpener, target: Target, credentials: Credentials) -> None:
    pool = make_pool(slow)
    results: list[object] = []

    def open_late() -> None:
        try:
            results.append(pool.open(target, credentials, "a"))
        except LinkLost as error:
            results.append(error)

    opening = threading.Thread(target=open_late, name="opening")
    opening.start()
    wait_until(lambda: slow.begun, "the login begins")
    pool.close()
    slow.go.set()
    opening.join(TIMEOUT)
    assert [type(result) for result in results] == [LinkLost]
    assert len(pool) == 0
    wait_until(
        lambda: not any(thread.name == "ssh-transport" for thread in threading.enumerate()),
        "the late connection is closed",
    )


def test_a_login_after_the_end(pool: ConnectionPool, target: Target, credentials: Credentials) -> None:
    host = pool.open(target, credentials, "a")
    pool.close()
    assert not host.connected
    with pytest.raises(LinkLost):
        pool.open(target, credentials, "a")
    assert len(pool) == 0


def test_coming_and_going_at_once(
    pool: ConnectionPool, sshd: SshServer, target: Target, credentials: Credentials
) -> None:
    """Whoever has opened a connection can use it until they let go, whatever the others do."""

    def come_and_go(number: int) -> int:
        worked = 0
        for _ in range(5):
            host = pool.open(target, credentials, f"holder-{number}")
            worked += host.run_script("echo hello", timeout=10).stdout == b"hello\n"
            pool.release(host, f"holder-{number}")
        return worked

    assert in_threads(6, come_and_go) == [5] * 6
    assert len(pool) == 0
