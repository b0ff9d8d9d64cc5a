"""The embedded SSH host, as an SSH client sees it."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.hosts.processes import is_alive
from tests.hosts.waiting import until

TIMEOUT = 10.0
MAX_SESSIONS = 3

Connect = Callable[..., paramiko.SSHClient]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "remote home"
    home.mkdir(mode=0o700)
    return home


@pytest.fixture
def host(home: Path) -> Iterator[EmbeddedHost]:
    with EmbeddedHost(home, environment={"GREETING": "hello"}, max_sessions=MAX_SESSIONS) as host:
        yield host


@pytest.fixture
def connect(host: EmbeddedHost) -> Iterator[Connect]:
    """Logs in with what is given, by default the password; trusts only the host's own key."""
    with contextlib.ExitStack() as opened:

        def connect(**credentials: object) -> paramiko.SSHClient:
            client = opened.enter_context(paramiko.SSHClient())
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            for line in host.known_hosts_lines():
                entry = paramiko.hostkeys.HostKeyEntry.from_line(line)
                assert entry is not None
                client.get_host_keys().add(entry.hostnames[0], entry.key.get_name(), entry.key)
            login = {"username": host.username, **(credentials or {"password": host.password})}
            client.connect(
                host.host, host.port, allow_agent=False, look_for_keys=False, timeout=TIMEOUT, **login
            )
            return client

        yield connect


def run(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """-> exit status, stdout, stderr."""
    to, out, err = client.exec_command(command, timeout=TIMEOUT)
    with to, out, err:
        to.write(stdin)
        to.channel.shutdown_write()
        return out.channel.recv_exit_status(), out.read(), err.read()


def opens_session(client: paramiko.SSHClient) -> bool:
    try:
        client.get_transport().open_session(timeout=TIMEOUT)
    except paramiko.ChannelException:
        return False
    return True


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT):
            return True
    except OSError:
        return False


class TestLogin:
    def test_generated_key(self, host: EmbeddedHost, connect: Connect) -> None:
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(host.client_key_text))
        assert run(connect(pkey=key), "echo in")[1] == b"in\n"

    def test_authorized_key(self, home: Path) -> None:
        key = paramiko.ECDSAKey.generate()
        line = f"{key.get_name()} {key.get_base64()} somebody"
        with EmbeddedHost(home, authorized_keys=[line]) as host, paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
            client.connect(host.host, host.port, "demo", pkey=key, allow_agent=False, look_for_keys=False)
            assert run(client, "echo in")[1] == b"in\n"

    @pytest.mark.parametrize("username", ["demo", "root"])
    def test_foreign_key_is_refused(self, connect: Connect, username: str) -> None:
        with pytest.raises(paramiko.AuthenticationException):
            connect(username=username, pkey=paramiko.ECDSAKey.generate())

    @pytest.mark.parametrize(("username", "password"), [("demo", "wrong"), ("demo", ""), ("root", None)])
    def test_wrong_login_is_refused(
        self, host: EmbeddedHost, connect: Connect, username: str, password: str | None
    ) -> None:
        with pytest.raises(paramiko.AuthenticationException):
            connect(username=username, password=host.password if password is None else password)

    def test_every_host_has_its_own_key_and_password(self, host: EmbeddedHost, home: Path) -> None:
        other = EmbeddedHost(home)
        assert other.host_keys != host.host_keys
        assert other.password != host.password


class TestCommands:
    def test_streams_and_status(self, connect: Connect) -> None:
        sent = os.urandom(1_000_000)
        status, out, err = run(connect(), "cat; echo wrong >&2; exit 7", sent)
        assert (status, out, err) == (7, sent, b"wrong\n")

    def test_home_and_environment(
        self, home: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OURS", "private")
        answer = run(connect(), 'printf "%s\\n" "$PWD" "$HOME" "$USER" "$GREETING" "${OURS-unset}"')
        assert answer[1].decode().splitlines() == [str(home), str(home), "demo", "hello", "unset"]

    def test_one_stream_may_end_before_the_other(self, connect: Connect) -> None:
        assert run(connect(), "exec 2>&-; cat", b"still here")[1] == b"still here"

    def test_unread_input_does_not_hold_the_end_up(self, connect: Connect) -> None:
        channel = connect().get_transport().open_session(timeout=TIMEOUT)
        channel.settimeout(TIMEOUT)
        channel.exec_command("true")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                channel.sendall(b"x" * 32768)
        assert channel.recv_exit_status() == 0

    def test_shell_without_a_command(self, connect: Connect) -> None:
        channel = connect().get_transport().open_session(timeout=TIMEOUT)
        channel.settimeout(TIMEOUT)
        channel.invoke_shell()
        channel.sendall(b"echo $((6 * 7))\n")
        channel.shutdown_write()
        assert channel.makefile("rb").read() == b"42\n"

    def test_a_closed_connection_ends_the_foreground_and_no_other_session(self, connect: Connect) -> None:
        client = connect()
        detached = "import os, time; os.setsid(); print(os.getpid(), flush=True)"
        detached += "; os.close(1); os.close(2); time.sleep(100)"
        _, out, _ = client.exec_command(f"python3 -c '{detached}' & echo $$; wait", timeout=TIMEOUT)
        pids = {int(line) for line in (out.readline(), out.readline())}
        client.close()
        left = until(
            lambda: alive if len(alive := [pid for pid in pids if is_alive(pid)]) == 1 else None,
            TIMEOUT,
            "one of the two processes ends",
        )
        try:
            assert os.getsid(left[0]) == left[0]
        finally:
            os.kill(left[0], 9)

    def test_sessions_of_a_connection_are_limited(self, connect: Connect) -> None:
        client = connect()
        transport = client.get_transport()
        held = [transport.open_session(timeout=TIMEOUT) for _ in range(MAX_SESSIONS - 1)]
        with client.open_sftp():
            with pytest.raises(paramiko.ChannelException):
                transport.open_session(timeout=TIMEOUT)
            assert run(connect(), "echo other connection")[0] == 0
        for channel in held:
            channel.close()
        until(lambda: opens_session(client), TIMEOUT, "a place for a session is free again")


class TestSftp:
    def test_starts_at_home(self, home: Path, connect: Connect) -> None:
        (home / "data").mkdir()
        (home / "data" / "file").write_bytes(b"content")
        with connect().open_sftp() as sftp:
            assert sftp.normalize(".") == str(home)
            assert sftp.listdir("data") == ["file"]
            with sftp.open("data/file") as stream:
                assert stream.read() == b"content"

    def test_shows_the_real_file_system(self, connect: Connect) -> None:
        with connect().open_sftp() as sftp:
            assert set(sftp.listdir("/")) == set(os.listdir("/"))
            with pytest.raises(FileNotFoundError):
                sftp.stat("missing")


class TestForwarding:
    def test_to_loopback(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0)) as service:
            channel = (
                connect()
                .get_transport()
                .open_channel("direct-tcpip", service.getsockname(), ("127.0.0.1", 1), timeout=TIMEOUT)
            )
            channel.settimeout(TIMEOUT)
            service.settimeout(TIMEOUT)
            accepted, _ = service.accept()
            with accepted:
                accepted.settimeout(TIMEOUT)
                channel.sendall(b"ping")
                assert accepted.recv(4) == b"ping"
                channel.shutdown_write()
                assert accepted.recv(1) == b""
                accepted.sendall(b"pong")
                assert channel.recv(4) == b"pong"

    @pytest.mark.parametrize("destination", ["192.0.2.1", "0.0.0.0", "localhost.example"])
    def test_to_anywhere_else_is_refused(self, connect: Connect, destination: str) -> None:
        with pytest.raises(paramiko.ChannelException) as refused:
            connect().get_transport().open_channel(
                "direct-tcpip", (destination, 80), ("127.0.0.1", 1), timeout=TIMEOUT
            )
        assert refused.value.code == 1  # administratively prohibited

    def test_to_a_closed_port_fails(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0)) as service:
            closed = service.getsockname()
        with pytest.raises(paramiko.ChannelException) as failed:
            connect().get_transport().open_channel("direct-tcpip", closed, ("127.0.0.1", 1), timeout=TIMEOUT)
        assert failed.value.code == 2  # connect failed


class TestRunning:
    def test_stop_leaves_nothing(self, home: Path, connect: Connect, host: EmbeddedHost) -> None:
        client = connect()
        _, out, _ = client.exec_command(
            "trap '' HUP TERM; echo $$; while :; do sleep 100; done", timeout=TIMEOUT
        )
        pid = int(out.readline())
        host.stop()
        assert not is_alive(pid)
        assert not listens(host.port)
        assert "embedded-ssh-host" not in [thread.name for thread in threading.enumerate()]
        host.stop()

    def test_starts_again_on_the_same_port(self, host: EmbeddedHost, connect: Connect) -> None:
        port, fingerprint = host.port, host.fingerprint
        host.stop()
        host.start()
        assert (host.port, host.fingerprint) == (port, fingerprint)
        assert run(connect(), "echo again")[1] == b"again\n"

    def test_renewed_host_key(self, host: EmbeddedHost, connect: Connect) -> None:
        before = host.fingerprint
        host.stop()
        host.renew_host_key()
        host.start()
        assert host.fingerprint != before
        connect()

    def test_taken_port(self, host: EmbeddedHost, home: Path) -> None:
        other = EmbeddedHost(home)
        other.port = host.port
        with pytest.raises(OSError, match="in use"):
            other.start()
        other.port = 0
        with other:
            assert listens(other.port)

    def test_killed_connections(self, host: EmbeddedHost, connect: Connect) -> None:
        client = connect()
        assert host.connection_count() == 1
        host.kill_connections()
        until(lambda: not client.get_transport().is_active(), TIMEOUT, "the client notices")
        assert run(connect(), "echo new")[0] == 0

    def test_frozen_host_answers_nothing_until_it_thaws(self, host: EmbeddedHost, connect: Connect) -> None:
        transport = connect().get_transport()
        host.freeze()
        with pytest.raises(paramiko.SSHException):
            transport.open_session(timeout=0.5)
        assert transport.is_active()
        host.thaw()
        assert transport.open_session(timeout=TIMEOUT).active
