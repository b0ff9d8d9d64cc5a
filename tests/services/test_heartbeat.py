"""What becomes of a viewer whose process stops, dies or loses its link: for real, probe by probe."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from runicorn_remote.services import Services
from runicorn_remote.services.connections import Login
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from tests.fakes import AdvancingClock
from tests.hosts.links import cut_links
from tests.hosts.sshd import KEY_ROOTS, SshServer
from tests.hosts.stand_in import SERVES, make_stand_in
from tests.onhost.viewer_host import is_alive
from tests.ssh.tunnel_kit import wait_until

pytestmark = [pytest.mark.sshd, pytest.mark.viewer]

# As the real one does after its idle time-out, on demand.
ENDS_WHEN_IDLE = (
    "import os, signal\n"
    "def end(number, frame):\n"
    "    print('Shutting down remote-mode viewer', flush=True)\n"
    "    os._exit(0)\n"
    "signal.signal(signal.SIGUSR1, end)\n" + SERVES
)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        environments = server.home / ".virtualenvs"
        environments.mkdir()
        (environments / "r72").symlink_to(sys.prefix)
        make_stand_in(environments / "idle", ENDS_WHEN_IDLE)
        yield server


@pytest.fixture
def settings(tmp_path: Path, sshd: SshServer) -> Settings:
    state = tmp_path / "state"
    state.mkdir()
    (state / "known_hosts").write_text("\n".join(sshd.known_hosts_lines()) + "\n")
    return Settings(
        state_dir=str(state),
        key_roots=KEY_ROOTS,
        health_timeout=0.5,
        probe_timeout=2.0,
        max_restarts=0,
        reconnect_first=0.05,
    )


@pytest.fixture
def clock() -> AdvancingClock:
    return AdvancingClock()


@pytest.fixture
def make_services(settings: Settings, clock: AdvancingClock) -> Iterator[Callable[..., Services]]:
    made: list[Services] = []

    def make(**changes: Any) -> Services:
        made.append(Services(replace(settings, **changes), clock=clock))
        return made[-1]

    yield make
    for services in made:
        services.close()


def login(server: SshServer) -> Login:
    return Login(
        host=server.host,
        port=server.port,
        username=server.username,
        private_key_path=str(server.client_key),
    )


def started(services: Services, server: SshServer, environment: str = "r72") -> ViewerSession:
    shown = services.viewers.start(login(server), remote_root="~/data", environment=environment)
    return services.sessions.get(shown["sessionId"])


def pid(session: ViewerSession) -> int:
    assert session.process is not None
    return session.process.pid


def examine(services: Services, session: ViewerSession) -> str:
    services.heartbeat.examine(session, services.clock.monotonic())
    return session.status


def answers(session: ViewerSession) -> bool:
    answer = requests.get(f"http://127.0.0.1:{session.local_port}/api/health", timeout=10)
    return answer.json()["status"] == "ok"


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def kill(session: ViewerSession) -> None:
    os.kill(pid(session), signal.SIGKILL)
    wait_until(lambda: not is_alive(pid(session)), "the viewer is dead")


# --- the viewer


def test_a_viewer_that_stops_answering_and_comes_back(
    make_services: Callable[..., Services], sshd: SshServer
) -> None:
    services = make_services()
    session = started(services, sshd)
    assert examine(services, session) == "running"
    healthy_at = session.snapshot()["lastHealthyAt"]
    os.kill(pid(session), signal.SIGSTOP)
    try:
        assert examine(services, session) == "running", "once is a busy viewer"
        assert examine(services, session) == "degraded"
        shown = session.snapshot()
        assert (shown["errorCode"], shown["isActive"]) == ("VIEWER_NOT_ANSWERING", True)
        assert shown["error"]
        assert shown["lastHealthyAt"] == healthy_at
    finally:
        os.kill(pid(session), signal.SIGCONT)
    assert examine(services, session) == "running"
    shown = session.snapshot()
    assert (shown["error"], shown["errorCode"]) == (None, None)
    assert shown["lastHealthyAt"] > healthy_at
    assert answers(session)


def test_a_viewer_that_crashes_for_good(make_services: Callable[..., Services], sshd: SshServer) -> None:
    services = make_services()
    session = started(services, sshd)
    assert len(services.pool) == 1
    kill(session)
    assert examine(services, session) == "error"
    shown = session.snapshot()
    assert shown["errorCode"] == "VIEWER_CRASHED"
    assert "Last lines of its log:\n" in shown["error"]
    assert session.process is not None
    assert str(session.process.port) in shown["error"], "the log says where it ran"
    assert not shown["isActive"]
    assert len(services.pool) == 0, "its hold is released"
    assert is_free(session.local_port)
    assert [each["status"] for each in services.sessions.snapshots()] == ["error"], "it stays listed"
    assert examine(services, session) == "error"
    services.viewers.stop(session.id)
    assert services.sessions.snapshots() == []
    assert list((sshd.home / ".local").rglob(session.id)) == []


def test_a_viewer_that_crashes_and_is_started_again(
    make_services: Callable[..., Services], sshd: SshServer
) -> None:
    services = make_services(max_restarts=1)
    session = started(services, sshd)
    first, port = pid(session), session.local_port
    kill(session)
    assert examine(services, session) in ("reconnecting", "running")
    wait_until(lambda: session.status == "running", "it runs again")
    assert pid(session) != first
    assert session.snapshot()["restarts"] == 1
    assert session.local_port == port
    assert answers(session)
    kill(session)
    assert examine(services, session) == "error", "once is enough"
    assert len(services.pool) == 0


def test_a_viewer_that_ends_itself_when_idle(make_services: Callable[..., Services], sshd: SshServer) -> None:
    services = make_services(max_restarts=3)
    session = started(services, sshd, "idle")
    os.kill(pid(session), signal.SIGUSR1)
    wait_until(lambda: not is_alive(pid(session)), "the viewer has ended")
    assert examine(services, session) == "stopped"
    assert session.error_code == "IDLE_EXIT"
    assert len(services.pool) == 0
    assert is_free(session.local_port)


def test_a_viewer_that_nobody_uses_is_not_kept_awake(
    make_services: Callable[..., Services], sshd: SshServer
) -> None:
    """It is not asked for its health, which would count as use; only its process is looked at."""
    services = make_services(idle_probe_after=60.0)
    session = started(services, sshd)
    os.kill(pid(session), signal.SIGSTOP)
    later = services.clock.monotonic() + 61
    try:
        for _ in range(3):
            services.heartbeat.examine(session, later)
            assert session.status == "running"
    finally:
        os.kill(pid(session), signal.SIGCONT)
    kill(session)
    services.heartbeat.examine(session, later)
    assert session.status == "error"


# --- the link


def test_a_link_that_is_cut(make_services: Callable[..., Services], sshd: SshServer) -> None:
    services = make_services()
    session = started(services, sshd)
    before = session.host
    cut_links(sshd)
    assert examine(services, session) in ("reconnecting", "running")
    wait_until(lambda: session.status == "running", "it is back")
    assert is_alive(pid(session))
    assert session.host is not before
    assert session.snapshot()["reconnects"] == 1
    assert session.snapshot()["restarts"] == 0
    assert answers(session)
    assert len(services.pool) == 1


def test_a_link_that_is_cut_while_the_host_is_away(
    make_services: Callable[..., Services], tmp_path: Path
) -> None:
    directory = tmp_path / "sshd"
    directory.mkdir()
    services = make_services()
    with SshServer(directory) as server:
        with (services.state_dir / "known_hosts").open("a") as stream:
            stream.write("\n".join(server.known_hosts_lines()) + "\n")
        make_stand_in(server.home / ".virtualenvs" / "serves", SERVES)
        session = started(services, server, "serves")
    # Gone with all that ran there.
    assert examine(services, session) == "reconnecting"
    wait_until(lambda: session.error_code == "CONNECTION_REFUSED", "an attempt has failed")
    assert not session.snapshot()["isActive"]
    services.viewers.stop(session.id)
    assert services.sessions.snapshots() == []
    assert is_free(session.local_port)


# --- the thread


def test_a_tick_looks_at_every_session(make_services: Callable[..., Services], sshd: SshServer) -> None:
    services = make_services()
    sessions = [started(services, sshd) for _ in range(2)]
    for session in sessions:
        kill(session)
    services.heartbeat.tick(services.clock.monotonic())
    wait_until(lambda: [session.status for session in sessions] == ["error"] * 2, "both are noticed")


def test_a_host_that_hangs_delays_no_other(
    make_services: Callable[..., Services], sshd: SshServer, tmp_path: Path
) -> None:
    directory = tmp_path / "frozen"
    directory.mkdir()
    services = make_services(probe_timeout=5.0)
    with SshServer(directory) as frozen:
        with (services.state_dir / "known_hosts").open("a") as stream:
            stream.write("\n".join(frozen.known_hosts_lines()) + "\n")
        make_stand_in(frozen.home / ".virtualenvs" / "serves", SERVES)
        stuck = started(services, frozen, "serves")
        session = started(services, sshd)
        kill(session)
        frozen.freeze_connections()
        try:
            services.heartbeat.tick(services.clock.monotonic())
            wait_until(lambda: session.status == "error", "the other is noticed")
            assert stuck.status == "running", "whose probe is still under way"
            services.heartbeat.tick(services.clock.monotonic())
            wait_until(lambda: services.heartbeat._under_way == {stuck.id}, "it is not asked twice at once")
        finally:
            frozen.thaw_connections()


def test_the_thread_notices_by_itself(make_services: Callable[..., Services], sshd: SshServer) -> None:
    services = make_services(heartbeat_interval=0.1)
    services.start()
    session = started(services, sshd)
    kill(session)
    wait_until(lambda: session.status == "error", "it is noticed")


def test_sessions_that_ended_long_ago_are_forgotten(
    make_services: Callable[..., Services], sshd: SshServer, clock: AdvancingClock
) -> None:
    services = make_services(ended_session_ttl=100.0)
    session = started(services, sshd)
    kill(session)
    assert examine(services, session) == "error"
    services.heartbeat.tick(clock.monotonic())
    assert len(services.sessions.snapshots()) == 1
    clock.ahead = 101
    services.heartbeat.tick(clock.monotonic())
    assert services.sessions.snapshots() == []
