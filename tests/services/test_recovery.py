"""How viewers come back: after lost links, crashes and restarts of the server, or wait in a named state."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.demo import ssh_account
from runicorn_remote.demo.ssh_host import EmbeddedHost
from runicorn_remote.errors import HostKeyConfirmationRequired, RemoteError, Unreachable
from runicorn_remote.services import Services
from runicorn_remote.services.connections import Login
from runicorn_remote.services.heartbeat import _one_host_after_the_other
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.loopback import listen_on_loopback
from runicorn_remote.ssh.target import Target
from tests.e2e.user import RemoteAccount, is_refused
from tests.hosts import processes
from tests.hosts.faulty_sshd import FaultySshServer
from tests.hosts.sshd import KEY_ROOTS
from tests.hosts.stand_in import SERVES, make_stand_in
from tests.hosts.waiting import until

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.viewer,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of processes"),
]

SOON = 30.0
# What a test wants of the next start stands in a file in HOME.
_ON_DEMAND = """
import os, signal
home = os.path.expanduser("~")
if os.path.exists(home + "/crash-at-start"):
    raise SystemExit("the index is broken")
while os.path.exists(home + "/hang-at-start"):
    signal.pause()
def end_as_when_idle(number, frame):
    print("Shutting down remote-mode viewer", flush=True)
    os._exit(0)
signal.signal(signal.SIGUSR1, end_as_when_idle)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FaultySshServer]:
    directory = tmp_path / "host"
    directory.mkdir()
    with FaultySshServer(directory, options={"LogLevel": "VERBOSE"}) as server:
        make_stand_in(server.home / ".virtualenvs" / "stand-in", _ON_DEMAND + SERVES)
        yield server


@pytest.fixture
def account(host: FaultySshServer) -> RemoteAccount:
    return RemoteAccount(host.home)


@pytest.fixture
def settings(tmp_path: Path, host: FaultySshServer) -> Settings:
    """Everything that happens by itself happens soon."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "known_hosts").write_text("\n".join(host.known_hosts_lines()) + "\n")
    return Settings(
        state_dir=str(state),
        key_roots=KEY_ROOTS,
        on_shutdown="keep",
        heartbeat_interval=0.2,
        health_timeout=0.5,
        probe_timeout=1.0,
        banner_timeout=2.0,
        reconnect_first=0.05,
        reconnect_max=0.2,
    )


Server = Callable[..., Services]


@pytest.fixture
def serve(settings: Settings, host: FaultySshServer) -> Iterator[Server]:
    """Starts servers, one after the other, on one state directory. The last one ends its viewers."""
    made: list[Services] = []

    def make(clock: Clock | None = None, **changes: Any) -> Services:
        made.append(Services(replace(settings, **changes), clock=clock))
        made[-1].start()
        return made[-1]

    yield make
    for services in reversed(made):
        services.viewers.stop_all()
        services.close()


@pytest.fixture
def services(serve: Server) -> Services:
    return serve()


def login(host: FaultySshServer | EmbeddedHost, **secrets: Any) -> Login:
    if isinstance(host, FaultySshServer) and not secrets:
        secrets = {"private_key_path": str(host.client_key)}
    return Login(host=host.host, port=host.port, username=host.username, use_agent=False, **secrets)


def start(
    services: Services, host: FaultySshServer | EmbeddedHost, with_login: Login | None = None
) -> ViewerSession:
    shown = services.viewers.start(with_login or login(host), remote_root="~/data", environment="stand-in")
    assert shown["status"] == "running"
    return services.sessions.get(shown["sessionId"])


def is_back(session: ViewerSession) -> bool:
    return session.status == "running" and answers(session)


def wait_for(session: ViewerSession, status: str, code: str | None = None) -> dict[str, Any]:
    until(
        lambda: session.status == status and session.error_code == code,
        SOON,
        lambda: f"{status} {code}, but {session.snapshot()}",
    )
    return session.snapshot()


def wait_until_back(session: ViewerSession) -> dict[str, Any]:
    until(lambda: is_back(session), SOON, lambda: f"it is back, but {session.snapshot()}")
    return session.snapshot()


def get(port: int, timeout: float = SOON) -> int:
    """GET /api/health -> status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/api/health")
        with connection.getresponse() as response:
            response.read()
            return response.status
    finally:
        connection.close()


def answers(session: ViewerSession) -> bool:
    try:
        return get(session.local_port, timeout=5) == 200
    except (OSError, http.client.HTTPException):
        return False


def kill(session: ViewerSession, number: signal.Signals = signal.SIGKILL) -> int:
    """End the viewer's process; its pid."""
    pid: int = session.snapshot()["remotePid"]
    os.kill(pid, number)
    until(lambda: not processes.is_alive(pid), SOON, "the viewer has ended")
    return pid


def nothing_is_tried(services: Services) -> bool:
    return not any(thread.name.startswith("reconnect-") for thread in threading.enumerate())


def where(shown: dict[str, Any]) -> dict[str, Any]:
    """What a user relies on, and what must not be another one's."""
    return {name: shown[name] for name in ("sessionId", "url", "localPort", "remotePort", "remotePid")}


# --- lost links


def test_five_viewers_come_back_with_one_login(services: Services, host: FaultySshServer) -> None:
    sessions = [start(services, host) for _ in range(5)]
    before = [where(session.snapshot()) for session in sessions]
    assert host.logins() == 1
    host.kill_sessions()
    until(lambda: all(session.snapshot()["reconnects"] for session in sessions), SOON, "all have noticed")
    assert [where(wait_until_back(session)) for session in sessions] == before
    assert [session.snapshot()["reconnects"] for session in sessions] == [1] * 5
    assert host.logins() == 2
    assert len(services.pool) == 1


def test_a_connection_that_comes_during_the_outage_is_served_after_it(
    services: Services, host: FaultySshServer
) -> None:
    session = start(services, host)
    with socket.create_connection(("127.0.0.1", session.local_port), timeout=SOON) as open_one:
        open_one.sendall(b"GET /api/health HTTP/1.1\r\n")  # half a request
        until(lambda: session.snapshot()["tunnel"]["openConnections"] == 1, SOON, "it is forwarded")
        host.halt()
        wait_for(session, "reconnecting", "CONNECTION_REFUSED")
        with pytest.raises(ConnectionResetError):
            open_one.recv(1)
    with ThreadPoolExecutor(1, thread_name_prefix="waiting") as executor:
        waiting = executor.submit(get, session.local_port)
        until(lambda: session.snapshot()["tunnel"]["openConnections"] == 1, SOON, "it waits")
        assert not waiting.done()
        host.start()
        assert waiting.result(SOON) == 200
    wait_until_back(session)


def test_a_frozen_host_is_noticed_and_tried_until_it_thaws(services: Services, host: FaultySshServer) -> None:
    session = start(services, host)
    before = where(session.snapshot())
    host.freeze()
    try:
        wait_for(session, "reconnecting", "NO_SSH_BANNER")
        assert not session.snapshot()["isActive"]
    finally:
        host.thaw()
    assert where(wait_until_back(session)) == before


def test_several_hosts_do_not_wait_for_each_other(
    services: Services, host: FaultySshServer, tmp_path: Path
) -> None:
    directory = tmp_path / "second"
    directory.mkdir()
    with FaultySshServer(directory) as second:
        make_stand_in(second.home / ".virtualenvs" / "stand-in", SERVES)
        with (services.state_dir / "known_hosts").open("a") as stream:
            stream.write("\n".join(second.known_hosts_lines()) + "\n")
        away, here = start(services, second), start(services, host)
        second.freeze()
        host.kill_sessions()
        until(lambda: here.snapshot()["reconnects"] == 1, SOON, "the link is lost and found")
        wait_until_back(here)
        second.thaw()
        wait_until_back(away)
        services.viewers.stop(away.id)


# --- what a person is needed for


def test_a_changed_host_key_stops_everything_until_it_is_accepted(
    services: Services, host: FaultySshServer
) -> None:
    sessions = [start(services, host) for _ in range(2)]
    before = [where(session.snapshot()) for session in sessions]
    logins = host.logins()
    host.halt()
    host.change_host_key()
    host.start()
    for session in sessions:
        wait_for(session, "disconnected", "HOST_KEY_CONFIRMATION_REQUIRED")
    until(lambda: nothing_is_tried(services), SOON, "nobody tries any more")
    assert host.logins() == logins, "nothing was sent to it"
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        services.connect(login(host))
    problem = caught.value.problem
    assert problem.reason == "changed"
    assert [session.status for session in sessions] == ["disconnected"] * 2
    services.known_hosts.accept(
        host.host, host.port, problem.key_type, problem.public_key, problem.fingerprint_sha256
    )
    services.connect(login(host))
    assert [where(wait_until_back(session)) for session in sessions] == before
    assert services.disconnect(host.host, host.port, host.username, stop_viewers=False)
    assert len(services.pool) == 1, "the viewers' own hold"


def test_refused_credentials_are_tried_once(services: Services, host: FaultySshServer) -> None:
    sessions = [start(services, host) for _ in range(3)]
    before = [where(session.snapshot()) for session in sessions]
    attempts = host.attempts()
    allowed = host.shut_out_everybody()
    host.kill_sessions()
    for session in sessions:
        shown = wait_for(session, "disconnected", "AUTH_FAILED")
        assert "Authentication failed" in shown["error"]
    until(lambda: nothing_is_tried(services), SOON, "nobody tries any more")
    for _ in range(3):
        services.heartbeat.tick(services.clock.monotonic())
    services.recovery.hurry()
    assert host.attempts() == attempts + 1
    host.let_in(allowed)
    assert [session.status for session in sessions] == ["disconnected"] * 3, "until somebody says so"
    services.connect(login(host))
    assert [where(wait_until_back(session)) for session in sessions] == before
    assert host.attempts() == attempts + 2


def test_a_changed_password(services: Services, tmp_path: Path) -> None:
    home = tmp_path / "embedded"
    make_stand_in(home / ".virtualenvs" / "stand-in", SERVES)
    with EmbeddedHost(home, password="first") as embedded:
        with (services.state_dir / "known_hosts").open("a") as stream:
            stream.write("\n".join(embedded.known_hosts_lines()) + "\n")
        session = start(services, embedded, login(embedded, password="first"))
        before = where(session.snapshot())
        embedded.kill_connections()
        until(lambda: session.snapshot()["reconnects"] == 1, SOON, "it is back with the password it had")
        embedded.stop()
        embedded.password = "second"
        embedded.start()
        wait_for(session, "disconnected", "AUTH_FAILED")
        with pytest.raises(RemoteError):
            services.connect(login(embedded, password="third"))
        assert session.status == "disconnected"
        services.connect(login(embedded, password="second"))
        assert where(wait_until_back(session)) == before
        services.viewers.stop(session.id)
        services.disconnect(embedded.host, embedded.port, embedded.username, stop_viewers=False)
        assert len(services.pool) == 0


def test_a_host_that_is_slow_to_judge_a_password_has_not_refused_it(
    serve: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = serve(auth_timeout=0.5)
    home = tmp_path / "embedded"
    home.mkdir()
    go_on = threading.Event()
    with EmbeddedHost(home, password="right") as embedded:
        with (services.state_dir / "known_hosts").open("a") as stream:
            stream.write("\n".join(embedded.known_hosts_lines()) + "\n")
        monkeypatch.setattr(ssh_account.AccountServer, "validate_password", lambda *_: go_on.wait(SOON))
        try:
            with pytest.raises(Unreachable) as caught:
                services.connect(login(embedded, password="right"))
            assert caught.value.code == "HANDSHAKE_TIMEOUT"
        finally:
            go_on.set()


def test_a_key_file_that_is_gone(services: Services, host: FaultySshServer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(host.client_key.read_bytes())
    key.chmod(0o600)
    session = start(services, host, login(host, private_key_path=str(key)))
    attempts = host.attempts()
    key.unlink()
    host.kill_sessions()
    wait_for(session, "disconnected", "NEEDS_CREDENTIALS")
    assert host.attempts() == attempts
    services.connect(login(host))
    wait_until_back(session)


def test_a_host_that_may_no_longer_be_reached(serve: Server, host: FaultySshServer) -> None:
    first = serve()
    session_id = start(first, host).id
    first.close()
    attempts = host.attempts()
    second = serve(denied_targets=("127.0.0.0/8",))
    wait_for(second.sessions.get(session_id), "disconnected", "TARGET_FORBIDDEN")
    assert host.attempts() == attempts
    second.close()
    wait_until_back(serve().sessions.get(session_id))


# --- crashes


def test_a_crash_is_restarted_on_the_same_ports_three_times(
    services: Services, host: FaultySshServer, account: RemoteAccount
) -> None:
    session = start(services, host)
    before = session.snapshot()
    for restarts in (1, 2, 3):
        dead = kill(session)
        until(lambda wanted=restarts: session.snapshot()["restarts"] == wanted, SOON, "it is started again")
        shown = wait_until_back(session)
        assert shown["remotePid"] != dead
        assert (shown["remotePort"], shown["url"]) == (before["remotePort"], before["url"])
        assert account.viewer_processes() == {shown["remotePid"]}
    kill(session)
    shown = wait_for(session, "error", "VIEWER_CRASHED")
    assert "Last lines of its log" in shown["error"]
    until(lambda: not account.private_directories(), SOON, "its files are removed")
    until(lambda: is_refused(session.local_port), SOON, "its port is free")
    assert account.viewer_processes() == set()
    assert [each["status"] for each in services.sessions.snapshots()] == ["error"], "it stays listed"


def test_a_viewer_that_cannot_start_again_has_crashed_too_often(
    services: Services, host: FaultySshServer, account: RemoteAccount
) -> None:
    session = start(services, host)
    (host.home / "crash-at-start").touch()
    kill(session)
    shown = wait_for(session, "error", "VIEWER_CRASHED")
    assert "the index is broken" in shown["error"]
    assert shown["restarts"] == 0
    assert account.viewer_processes() == set()
    until(lambda: not account.private_directories(), SOON, "its files are removed")
    until(lambda: is_refused(session.local_port), SOON, "its port is free")


def test_an_idle_exit_during_an_outage_is_no_crash(
    services: Services, host: FaultySshServer, account: RemoteAccount
) -> None:
    session = start(services, host)
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    kill(session, signal.SIGUSR1)
    host.start()
    shown = wait_for(session, "stopped", "IDLE_EXIT")
    assert shown["restarts"] == 0
    until(lambda: not account.private_directories(), SOON, "its files are removed")
    until(lambda: is_refused(session.local_port), SOON, "its port is free")
    assert account.viewer_processes() == set()


def test_a_crash_during_an_outage_is_restarted_after_it(services: Services, host: FaultySshServer) -> None:
    session = start(services, host)
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    dead = kill(session)
    host.start()
    shown = wait_until_back(session)
    assert shown["restarts"] == 1
    assert shown["remotePid"] != dead


def test_a_restart_that_the_link_cut_short_is_one_crash(
    serve: Server, host: FaultySshServer, account: RemoteAccount
) -> None:
    services = serve(max_restarts=1)
    session = start(services, host)
    hang = host.home / "hang-at-start"
    hang.touch()
    dead = kill(session)
    until(lambda: session.snapshot()["remotePid"] != dead, SOON, "it is being started again")
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    hang.unlink()
    until(lambda: not account.viewer_processes(), SOON, "the host takes the unfinished start back")
    host.start()
    assert wait_until_back(session)["restarts"] == 1


# --- stopping what is in trouble


def test_stop_while_reconnecting(services: Services, host: FaultySshServer, account: RemoteAccount) -> None:
    session = start(services, host)
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    services.viewers.stop(session.id)
    assert services.sessions.snapshots() == []
    assert is_refused(session.local_port)
    until(lambda: nothing_is_tried(services), SOON, "nobody tries any more")
    assert len(services.pool) == 0
    host.start()
    assert account.viewer_processes(), "it could not be reached"
    services.connect(login(host))
    until(lambda: not account.viewer_processes(), SOON, "it is found at the next login, and ended")
    until(lambda: not account.private_directories(), SOON, "with its files")


def test_stop_while_a_login_is_under_way(
    serve: Server, host: FaultySshServer, account: RemoteAccount
) -> None:
    services = serve(banner_timeout=SOON)
    session = start(services, host)
    host.freeze()
    wait_for(session, "reconnecting", "LINK_TIMEOUT")
    until(lambda: len(services.pool) == 0, SOON, "a login is being waited for")
    services.viewers.stop(session.id)
    assert services.sessions.snapshots() == []
    host.thaw()
    until(lambda: not account.viewer_processes(), SOON, "the login ends, and the viewer with it")
    until(lambda: nothing_is_tried(services), SOON, "nobody tries any more")
    assert len(services.pool) == 0, "and nobody holds the connection"


def test_stop_during_a_restart(services: Services, host: FaultySshServer, account: RemoteAccount) -> None:
    session = start(services, host)
    (host.home / "hang-at-start").touch()
    dead = kill(session)
    until(lambda: session.snapshot()["remotePid"] != dead, SOON, "it is being started again")
    services.viewers.stop(session.id)
    assert services.sessions.snapshots() == []
    until(lambda: not account.viewer_processes(), SOON, "the new process ends")
    until(lambda: not account.private_directories(), SOON, "its files go")
    assert is_refused(session.local_port)
    assert len(services.pool) == 0


def test_a_stop_at_any_moment_of_a_restart_leaves_nothing(
    services: Services, host: FaultySshServer, account: RemoteAccount
) -> None:
    for moment in (0.0, 0.2, 0.4, 0.6, 0.8):
        session = start(services, host)
        kill(session)
        until(lambda session=session: session.restarting, SOON, "it is being started again")
        threading.Event().wait(moment)
        services.viewers.stop(session.id)
        until(lambda: not account.viewer_processes(), SOON, "no process is left")
        until(lambda: not account.private_directories(), SOON, "no file is left")
        assert is_refused(session.local_port)
    assert len(services.pool) == 0


def test_disconnect_while_reconnecting(services: Services, host: FaultySshServer) -> None:
    services.connect(login(host))
    session = start(services, host)
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    assert services.disconnect(host.host, host.port, host.username, stop_viewers=False)
    assert services.connections.list() == []
    host.start()
    wait_until_back(session)
    assert services.connections.list() == []
    services.viewers.stop(session.id)
    assert len(services.pool) == 0, "nobody holds it any more"


def test_the_users_connection_comes_back_with_the_viewers(services: Services, host: FaultySshServer) -> None:
    services.connect(login(host))
    session = start(services, host)
    host.kill_sessions()
    until(lambda: session.snapshot()["reconnects"] == 1, SOON, "it is back")
    assert [each["connected"] for each in services.connections.list()] == [True]
    services.viewers.stop(session.id)
    assert len(services.pool) == 1, "the user's own hold"


# --- the next server


def test_the_next_server_finds_the_viewers(serve: Server, host: FaultySshServer) -> None:
    first = serve()
    before = [where(start(first, host).snapshot()) for _ in range(3)]
    first.close()
    logins = host.logins()
    second = serve()
    for known in before:
        session = second.sessions.get(known["sessionId"])
        assert where(wait_until_back(session)) == known
        assert session.snapshot()["restarts"] == 0
    assert host.logins() == logins + 1


def test_secrets_that_are_not_stored_have_to_be_brought(serve: Server, host: FaultySshServer) -> None:
    first = serve()
    by_text = login(host, private_key=host.client_key.read_text())
    before = where(start(first, host, by_text).snapshot())
    first.close()
    attempts = host.attempts()
    second = serve()
    session = second.sessions.get(before["sessionId"])
    shown = wait_for(session, "disconnected", "NEEDS_CREDENTIALS")
    assert "connect" in shown["error"]
    assert host.attempts() == attempts
    assert where(shown) == before
    with socket.create_connection(("127.0.0.1", session.local_port), timeout=SOON) as waiting:
        waiting.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert waiting.recv(1) == b"", "it is turned away, not left without an answer"
    second.connect(by_text)
    assert where(wait_until_back(session)) == before
    second.close()
    third = serve()
    session = third.sessions.get(before["sessionId"])
    wait_for(session, "disconnected", "NEEDS_CREDENTIALS")
    third.connect(login(host))
    assert where(wait_until_back(session)) == before, "whatever proves who we are will do"


def test_a_saved_server_supplies_its_secrets(serve: Server, host: FaultySshServer) -> None:
    first = serve()
    first.saved_connections.replace(
        [
            {
                "kind": "server",
                "id": "gpu",
                "name": "gpu",
                "host": host.host,
                "port": host.port,
                "username": host.username,
                "authMethod": "key",
                "private_key": host.client_key.read_text(),
                "createdAt": 1,
            }
        ]
    )
    before = where(start(first, host, Login(saved_server_id="gpu", use_agent=False)).snapshot())
    first.close()
    second = serve()
    assert where(wait_until_back(second.sessions.get(before["sessionId"]))) == before


def test_a_local_port_that_was_taken_meanwhile(serve: Server, host: FaultySshServer) -> None:
    first = serve()
    sessions = [start(first, host) for _ in range(2)]
    before = [where(session.snapshot()) for session in sessions]
    first.close()
    taken = listen_on_loopback(before[0]["localPort"])
    try:
        second = serve()
        robbed, other = (second.sessions.get(known["sessionId"]) for known in before)
        wait_for(robbed, "disconnected", "LOCAL_PORT_IN_USE")
        assert where(wait_until_back(other)) == before[1]
        second.heartbeat.tick(second.clock.monotonic())
        assert robbed.error_code == "LOCAL_PORT_IN_USE"
    finally:
        for listener in taken:
            listener.close()
    assert where(wait_until_back(robbed)) == before[0]


def test_what_ended_while_no_server_ran(serve: Server, host: FaultySshServer, account: RemoteAccount) -> None:
    first = serve()
    idle, crashed = start(first, host), start(first, host)
    first.close()
    kill(idle, signal.SIGUSR1)
    kill(crashed)
    second = serve()
    wait_for(second.sessions.get(idle.id), "stopped", "IDLE_EXIT")
    again = second.sessions.get(crashed.id)
    shown = wait_until_back(again)
    assert shown["restarts"] == 1
    assert account.viewer_processes() == {shown["remotePid"]}


def test_a_viewer_of_a_restart_that_was_never_written_down(
    serve: Server, host: FaultySshServer, account: RemoteAccount, settings: Settings
) -> None:
    """The server was killed between the start of a new process and the next line on disk."""
    file = Path(settings.resolved_state_dir()) / "sessions.json"
    first = serve()
    session = start(first, host)
    on_disk = file.read_text()
    kill(session)
    until(lambda: session.snapshot()["restarts"] == 1, SOON, "it is started again")
    first.close()
    file.write_text(on_disk)
    second = serve()
    shown = wait_until_back(second.sessions.get(session.id))
    assert account.viewer_processes() == {shown["remotePid"]}, "one, and the one we know"


def test_forgotten_viewers_are_ended_at_the_next_login_and_others_are_not(
    serve: Server, host: FaultySshServer, account: RemoteAccount, settings: Settings, tmp_path: Path
) -> None:
    state = Path(settings.resolved_state_dir())
    first = serve()
    forgotten = start(first, host).snapshot()
    kept = start(first, host).snapshot()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "known_hosts").write_text((state / "known_hosts").read_text())
    other = Services(replace(settings, state_dir=str(elsewhere)))
    other.start()
    foreign = start(other, host)
    first.close()
    content = json.loads((state / "sessions.json").read_text())
    content["sessions"] = [
        entry for entry in content["sessions"] if entry["session_id"] != forgotten["sessionId"]
    ]
    (state / "sessions.json").write_text(json.dumps(content))
    second = serve()
    until(lambda: not processes.is_alive(forgotten["remotePid"]), SOON, "the forgotten one is ended")
    wait_until_back(second.sessions.get(kept["sessionId"]))
    assert account.viewer_processes() == {kept["remotePid"], foreign.snapshot()["remotePid"]}
    other.viewers.stop_all()
    other.close()


# --- what it costs the hosts


def test_an_idle_viewers_process_is_not_asked_for_all_the_time(serve: Server, host: FaultySshServer) -> None:
    """Each question starts a Python there. The link is looked at every time."""
    services = serve(idle_probe_after=0.05, heartbeat_interval=3600.0)
    session = start(services, host)
    until(lambda: services.clock.monotonic() - session.tunnel.last_activity > 0.05, SOON, "it is idle")
    questions = host.log().count("Starting session: command")
    for _ in range(5):
        tick_and_wait(services)
    until(lambda: host.log().count("Starting session: command") == questions + 1, SOON, "one question")
    host.kill_sessions()
    until(lambda: not session.host.connected, SOON, "the connection is closed")
    tick_and_wait(services)
    until(lambda: session.snapshot()["reconnects"] == 1, SOON, "it is lost and found")


def tick_and_wait(services: Services) -> None:
    services.heartbeat.tick(services.clock.monotonic())
    until(lambda: not services.heartbeat._under_way, SOON, "the probes are done")


def test_every_host_is_asked_before_any_is_asked_twice() -> None:
    hosts = [Target(name, 22, "me") for name in ("a", "b", "c")]
    order = [hosts[number] for number in (0, 0, 0, 1, 1, 2)]
    sessions = [SimpleNamespace(target=target, number=number) for number, target in enumerate(order)]
    asked = _one_host_after_the_other(sessions)  # type: ignore[arg-type]
    assert [session.target.host for session in asked] == ["a", "b", "c", "a", "b", "a"]
    assert [each.number for each in asked if each.target is hosts[0]] == [0, 1, 2]  # type: ignore[attr-defined]


# --- clocks, and threads that stumble


class JumpingClock(Clock):
    """A wall clock that somebody, or a long sleep, has moved by `moved` seconds."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


@pytest.mark.parametrize("jump", [3600.0, -3600.0], ids=["forward", "back"])
def test_a_jump_of_the_clock_means_looking_at_once(serve: Server, host: FaultySshServer, jump: float) -> None:
    clock = JumpingClock()
    services = serve(clock, heartbeat_interval=3600.0)
    session = start(services, host)
    host.freeze()
    try:
        assert session.status == "running", "nobody looks for an hour"
        clock.moved = jump
        wait_for(session, "reconnecting", "NO_SSH_BANNER")
    finally:
        host.thaw()
    wait_until_back(session)


def test_after_a_sleep_nobody_waits_for_the_end_of_a_pause(serve: Server, host: FaultySshServer) -> None:
    clock = JumpingClock()
    services = serve(clock, reconnect_first=3600.0, reconnect_max=3600.0)
    session = start(services, host)
    host.halt()
    wait_for(session, "reconnecting", "CONNECTION_REFUSED")
    host.start()
    clock.moved = 3600.0
    wait_until_back(session)


def test_an_attempt_that_stumbles_is_repeated(
    services: Services, host: FaultySshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(services, host)
    bring_back, stumbled = services.recovery._attempt._bring_back, threading.Event()

    def stumble_once(*arguments: Any) -> None:
        if not stumbled.is_set():
            stumbled.set()
            raise RuntimeError("on purpose")
        bring_back(*arguments)

    monkeypatch.setattr(services.recovery._attempt, "_bring_back", stumble_once)
    host.kill_sessions()
    assert stumbled.wait(SOON)
    wait_until_back(session)


def test_closing_does_not_wait_for_a_host_that_is_away(serve: Server, host: FaultySshServer) -> None:
    services = serve(banner_timeout=60.0, shutdown_timeout=5.0)
    session = start(services, host)
    host.freeze()
    wait_for(session, "reconnecting", "LINK_TIMEOUT")
    began = time.monotonic()
    services.close()
    assert time.monotonic() - began < 20
    host.thaw()
    services.recovery.join(SOON)
