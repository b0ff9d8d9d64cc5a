"""What is done over a connection: scripts with all their output, deadlines, and lost links."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from runicorn_remote.errors import Busy, LinkLost, RemoteCommandFailed
from runicorn_remote.settings import Settings
from runicorn_remote.ssh import host
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.links import cut_links
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import trusted
from tests.ssh.tunnel_kit import TIMEOUT, wait_until

pytestmark = pytest.mark.sshd

MEGABYTE = 1024 * 1024
FOREVER = "while :; do sleep 1; done"


def lines(count: int) -> str:
    """A script that prints `count` numbered lines of 64 bytes."""
    return f"awk 'BEGIN {{ for (i = 0; i < {count}; i++) printf \"%063d\\n\", i }}'"


def expected(count: int) -> bytes:
    return b"".join(b"%063d\n" % number for number in range(count))


class Failing(threading.Thread):
    """Runs something that must fail, elsewhere."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(name="failing", daemon=True)
        self._work = work
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._error = error

    def error(self, within: float = TIMEOUT) -> Exception | None:
        self.join(within)
        assert not self.is_alive(), "it still waits"
        return self._error


# --- output


def test_output_status_and_stderr(remote: RemoteHost) -> None:
    result = remote.run_script("echo out; echo err >&2; exit 3", timeout=10)
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    result = remote.run_script("true", timeout=10)
    assert (result.exit_status, result.stdout, result.stderr) == (0, b"", b"")


def test_a_script_that_is_killed(remote: RemoteHost) -> None:
    assert remote.run_script("echo a; kill -9 $$", timeout=10).stdout == b"a\n"


def test_a_script_of_a_megabyte_in_any_language(remote: RemoteHost) -> None:
    script = "# " + "é" * MEGABYTE + "\nprintf '%s' 'ü \U0001f984'"
    assert remote.run_script(script, timeout=20).stdout == "ü \U0001f984".encode()


def test_ten_megabytes(remote: RemoteHost) -> None:
    count = 10 * MEGABYTE // 64
    result = remote.run_script(lines(count), timeout=30)
    assert result.exit_status == 0
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(expected(count)).digest()


def test_more_output_than_is_taken(remote: RemoteHost) -> None:
    with pytest.raises(RemoteCommandFailed) as caught:
        remote.run_script(lines(20 * MEGABYTE // 64), timeout=30)
    assert caught.value.code == "OUTPUT_TOO_LARGE"
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"


def test_a_flood_on_stderr_stops_nothing(remote: RemoteHost) -> None:
    """More than any window, before the first byte of output."""
    count = 8 * MEGABYTE // 64
    result = remote.run_script(f"{lines(count)} >&2; echo out; exit 2", timeout=20)
    assert (result.exit_status, result.stdout) == (2, b"out\n")
    assert result.stderr == expected(count)[: 64 * 1024]


def test_both_at_once(remote: RemoteHost) -> None:
    count = 4 * MEGABYTE // 64
    result = remote.run_script(f"{lines(count)} >&2 & {lines(count)}; wait", timeout=20)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(expected(count)).digest()


def test_line_by_line(remote: RemoteHost) -> None:
    with remote.open_script("echo one; echo; printf 'no end'; exit 4", timeout=10) as running:
        assert [running.readline() for _ in range(4)] == [b"one", b"", b"no end", None]
        assert running.exit_status() == 4


def test_a_line_that_is_not_there_yet(remote: RemoteHost) -> None:
    """A wait that is given up loses nothing."""
    remote.run_script('mkfifo "$HOME/fifo"', timeout=10)
    with remote.open_script('printf \'first \'; read x < "$HOME/fifo"; echo "$x"', timeout=20) as running:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                running.readline(timeout=0.05)
        remote.run_script('echo second > "$HOME/fifo"', timeout=10)
        assert running.readline(timeout=10) == b"first second"


def test_lines_that_never_end(remote: RemoteHost) -> None:
    script = "head -c 12000000 /dev/zero | tr '\\0' x"
    with remote.open_script(script, timeout=30) as running, pytest.raises(RemoteCommandFailed) as caught:
        running.readline()
    assert caught.value.code == "OUTPUT_TOO_LARGE"


# --- deadlines


def test_a_script_that_takes_too_long(remote: RemoteHost) -> None:
    with pytest.raises(RemoteCommandFailed) as caught:
        remote.run_script(f"echo begun; {FOREVER}", timeout=0.3)
    assert caught.value.code == "COMMAND_TIMEOUT"
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"


def test_a_script_that_says_something_all_the_time(remote: RemoteHost) -> None:
    """Each byte is in time; the whole is not."""
    with pytest.raises(RemoteCommandFailed) as caught:
        remote.run_script(
            "while :; do echo .; done | head -c 300000 | while read x; do sleep 0.05; echo .; done",
            timeout=0.5,
        )
    assert caught.value.code == "COMMAND_TIMEOUT"


def test_a_script_that_floods_stderr_for_ever(remote: RemoteHost) -> None:
    with pytest.raises(RemoteCommandFailed) as caught:
        remote.run_script("yes >&2", timeout=0.5)
    assert caught.value.code == "COMMAND_TIMEOUT"
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"


# --- the link


def test_a_link_that_is_cut_in_the_middle_of_a_script(remote: RemoteHost, sshd: SshServer) -> None:
    failing = Failing(lambda: remote.run_script(f'touch "$HOME/begun"; {FOREVER}', timeout=60))
    wait_until((sshd.home / "begun").exists, "the script runs")
    began = time.monotonic()
    cut_links(sshd)
    assert isinstance(failing.error(), LinkLost)
    assert time.monotonic() - began < 5
    assert not remote.connected
    for work in (
        lambda: remote.run_script("true", timeout=5),
        lambda: remote.check(5),
        lambda: remote.transport,
        lambda: remote.sftp(timeout=5).__enter__(),
    ):
        with pytest.raises(LinkLost):
            work()


def test_closing_ends_whoever_waits(remote: RemoteHost) -> None:
    failing = Failing(lambda: remote.run_script(FOREVER, timeout=60))
    with remote.open_script("echo up", timeout=10) as running:
        assert running.readline() == b"up"
    remote.close()
    assert isinstance(failing.error(), LinkLost)
    remote.close()


def test_a_frozen_link(remote: RemoteHost, sshd: SshServer) -> None:
    remote.check(5)
    sshd.freeze_connections()
    try:
        assert remote.connected, "nothing shows it yet"
        with pytest.raises(LinkLost) as caught:
            remote.check(0.3)
        assert caught.value.code == "LINK_TIMEOUT"
        with pytest.raises(LinkLost):
            remote.run_script("true", timeout=0.3)
    finally:
        sshd.thaw_connections()


def test_checks_leave_no_channel(remote: RemoteHost) -> None:
    for _ in range(50):
        remote.check(5)
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"


# --- the channel of a check, kept for the command behind it


@pytest.fixture
def opened(remote: RemoteHost, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Has an item for each session channel that is opened."""
    transport = remote.transport
    seen: list[float | None] = []
    open_session = transport.open_session

    def open_and_tell(timeout: float | None = None) -> paramiko.Channel:
        seen.append(timeout)
        return open_session(timeout=timeout)

    monkeypatch.setattr(transport, "open_session", open_and_tell)
    return seen


def test_a_kept_channel_serves_the_next_command(remote: RemoteHost, opened: list[float | None]) -> None:
    for number in range(1, 12):  # more than sshd has places for
        remote.check(5, keep=True)
        assert remote.run_script("echo on", timeout=10).stdout == b"on\n"
        assert len(opened) == number
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"
    assert len(opened) == 12


def test_kept_channels_take_no_places(remote: RemoteHost, opened: list[float | None]) -> None:
    for _ in range(20):
        remote.check(5, keep=True)
    remote.check(5)
    assert len(opened) == 21
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"
    assert len(opened) == 22, "the last check kept none"


def test_a_kept_channel_is_not_trusted_for_long(
    remote: RemoteHost, opened: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.check(5, keep=True)
    monkeypatch.setattr(host, "_SPARE_LASTS", 0.0)
    assert remote.run_script("echo on", timeout=10).stdout == b"on\n"
    assert len(opened) == 2


# --- scripts as commands


def test_openssh_gets_the_command_and_others_the_script(
    remote: RemoteHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> bytes:
        return remote.run_script("echo script", timeout=10, command="echo command").stdout

    assert run() == b"command\n"
    for version in ("SSH-2.0-dropbear_2022.83", "SSH-2.0-OpenSSH_for_Windows_9.5"):
        monkeypatch.setattr(remote.transport, "remote_version", version)
        assert run() == b"script\n"


# --- the budget of sessions


@pytest.fixture
def connector(settings: Settings, known_hosts: KnownHostsFile) -> Connector:
    return Connector(replace(settings, channel_timeout=2.0), known_hosts)


def test_more_at_once_than_sshd_allows(remote: RemoteHost) -> None:
    """More scripts than sshd lets run (ten) and we use (eight) get their turn, also as others end."""
    answers: list[bytes] = []

    def run() -> None:
        for _ in range(20):
            answers.append(remote.run_script("sleep 0.01; echo on", timeout=20).stdout)

    threads = [threading.Thread(target=run, name=f"run-{number}") for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert answers == [b"on\n"] * 20 * 16


def test_when_the_budget_is_spent(
    settings: Settings, known_hosts: KnownHostsFile, target: Target, credentials: Credentials
) -> None:
    limited = Connector(replace(settings, sessions_per_connection=1), known_hosts)
    remote = limited(target, credentials)
    try:
        with remote.open_script(FOREVER, timeout=20):
            for work in (lambda: remote.run_script("true", timeout=0.2), lambda: remote.check(0.2)):
                with pytest.raises(Busy) as caught:
                    work()
                assert caught.value.code == "TOO_MANY_SESSIONS"
        assert remote.run_script("echo on", timeout=10).stdout == b"on\n"
        remote.check(5, keep=True)
        remote.check(0.2, keep=True)
        assert remote.run_script("echo on", timeout=0.2).stdout == b"on\n", "the place is the command's own"
    finally:
        remote.close()


def connected_to(server: SshServer, connector: Connector, known_hosts: KnownHostsFile) -> RemoteHost:
    target = trusted(server, known_hosts)
    return connector(target, Credentials(private_key_path=str(server.client_key)))


def test_a_host_that_allows_no_session(
    tmp_path: Path, connector: Connector, known_hosts: KnownHostsFile
) -> None:
    with SshServer(tmp_path, options={"MaxSessions": "0"}) as server:
        remote = connected_to(server, connector, known_hosts)
        try:
            for work in (lambda: remote.run_script("true", timeout=5), lambda: remote.check(5)):
                with pytest.raises(LinkLost) as caught:
                    work()
                assert caught.value.code == "CHANNEL_REFUSED"
            assert remote.connected
        finally:
            remote.close()


def test_a_host_that_runs_something_else(
    tmp_path: Path, connector: Connector, known_hosts: KnownHostsFile
) -> None:
    with SshServer(tmp_path, options={"ForceCommand": "echo no; exit 1"}) as server:
        remote = connected_to(server, connector, known_hosts)
        try:
            result = remote.run_script("echo on", timeout=10)
            assert (result.exit_status, result.stdout) == (1, b"no\n")
        finally:
            remote.close()
