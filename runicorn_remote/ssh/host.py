"""One logged-in SSH connection, and what is done over it.

`RemoteHost` owns a Fabric connection, those to its jump hosts, and the threads behind them (a paramiko
transport each). It is
opened once by `runicorn_remote.ssh.connect` and never logs in again by itself: a lost link is an
error, and the pool replaces the object. Commands go over bare channels of the connection's
transport, because Fabric's own `run` costs three threads a call, decodes chunk by chunk and cannot
be given a deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST

from runicorn_remote.errors import Busy, LinkLost, RemoteCommandFailed
from runicorn_remote.ssh.chain import Chain
from runicorn_remote.ssh.running_script import RunningScript, is_lost
from runicorn_remote.ssh.sftp import SftpSession
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.translate import link_errors
from runicorn_remote.ssh.transport import TunnelTransport

# What an open channel proves about the link is no longer news then.
_SPARE_LASTS = 1.0
# Seconds.
_AFTER_REFUSALS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)


@dataclass(frozen=True)
class ScriptResult:
    """What a finished script left. `exit_status` is -1 when the host did not say."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class RemoteHost:
    """A live connection to one account. All methods may be called from any thread."""

    def __init__(
        self,
        target: Target,
        identity: str,
        chain: Chain,
        *,
        sessions: int,
        channel_timeout: float,
    ) -> None:
        self.target = target
        self.identity = identity
        self._chain = chain
        self._connection = chain.last
        self._channel_timeout = channel_timeout
        # A stock sshd allows 10 sessions a connection, and exec and SFTP count.
        self._sessions = threading.BoundedSemaphore(sessions)
        self._closed = threading.Event()
        self._spare_lock = threading.Lock()
        # Open and unused, and since when; it has its place among the sessions.
        self._spare: tuple[paramiko.Channel, float] | None = None

    @property
    def transport(self) -> TunnelTransport:
        """The transport below, for tunnels. Raises `LinkLost` when it is gone."""
        transport: TunnelTransport | None = self._connection.transport
        if transport is None or not transport.is_active():
            raise LinkLost(f"The SSH connection to {self.target} is lost")
        return transport

    @property
    def connected(self) -> bool:
        """What is known without asking the network: False is certain, True may be a frozen link."""
        transport = self._connection.transport
        return transport is not None and transport.is_active()

    def check(self, timeout: float, *, keep: bool = False) -> None:
        """Prove that the far side answers: open a session channel. Raises `LinkLost`.

        With `keep` it stays open for the next command, if that comes soon: a round trip less for it.
        """
        self._put_spare(None)
        channel = self._open_channel(timeout)
        if keep:
            self._put_spare(channel)
        else:
            self._give_back(channel)

    def run_script(self, script: str, *, timeout: float, command: str | None = None) -> ScriptResult:
        """Run `script` with the host's `sh` and wait for its end. `command` as in `open_script`.

        Raises `LinkLost`, or `RemoteCommandFailed` (`COMMAND_TIMEOUT`) after `timeout` seconds.
        """
        with self.open_script(script, timeout=timeout, command=command) as running:
            stdout = running.read()
            return ScriptResult(running.exit_status(), stdout, running.stderr())

    @contextmanager
    def open_script(
        self, script: str, *, timeout: float, command: str | None = None
    ) -> Iterator[RunningScript]:
        """Start `script` with the host's `sh`; read its output while it runs.

        The login shell sees just `sh -s`, whatever shell it is; the script goes over stdin. `command`:
        the same as one line for any login shell. OpenSSH takes no stdin before it runs the command, so
        it gets the line, and starts a round trip earlier. Leaving the block closes the channel; the
        script notices when it next writes.
        """
        deadline = time.monotonic() + timeout
        with self._session(timeout) as channel, link_errors(self.target):
            if command is not None and _takes_long_commands(channel):
                _request_exec(channel, command)
                _write_all(channel, b"")
            else:
                _request_exec(channel, "sh -s")
                channel.settimeout(timeout)
                _write_all(channel, script.encode())
            yield RunningScript(self.target, channel, deadline)

    @contextmanager
    def sftp(self, *, timeout: float) -> Iterator[SftpSession]:
        """One SFTP session, for one thread, closed with the block.

        Raises `LinkLost`, or `RemoteCommandFailed` (`SFTP_UNAVAILABLE`).
        """
        deadline = time.monotonic() + timeout
        with self._session(timeout) as channel, link_errors(self.target):
            channel.settimeout(timeout)
            _request_subsystem(channel, "sftp")
            yield SftpSession(self._sftp_client(channel), deadline)

    def close(self) -> None:
        """End the connection, its jump hosts', their threads and, with them, everything that waits on it."""
        self._closed.set()
        self._chain.close()

    def _sftp_client(self, channel: paramiko.Channel) -> paramiko.SFTPClient:
        try:
            return paramiko.SFTPClient(channel)
        except (EOFError, paramiko.SSHException) as error:
            if is_lost(channel):
                raise
            raise RemoteCommandFailed(
                f"{self.target} offers no SFTP",
                code="SFTP_UNAVAILABLE",
                hint="Its sshd has no sftp subsystem, or allows this account one command only.",
            ) from error

    @contextmanager
    def _session(self, timeout: float) -> Iterator[paramiko.Channel]:
        """A session channel within the budget."""
        channel = self._take_spare() or self._open_channel(timeout)
        try:
            yield channel
        finally:
            self._give_back(channel)

    def _open_channel(self, timeout: float) -> paramiko.Channel:
        if not self._sessions.acquire(timeout=timeout):
            raise Busy(f"Too many commands at once on {self.target}", code="TOO_MANY_SESSIONS")
        try:
            with link_errors(self.target):
                return self._open_session(min(timeout, self._channel_timeout))
        except BaseException:
            self._sessions.release()
            raise

    def _open_session(self, timeout: float) -> paramiko.Channel:
        """A channel; asked for again, soon and a few times, when it is refused.

        sshd counts a session until it has cleared up the channel, which it does after it has read all
        that came at once: ends and beginnings that arrive together are more sessions than it allows.
        """
        for pause in _AFTER_REFUSALS:
            try:
                return self.transport.open_session(timeout=timeout)
            except paramiko.ChannelException:
                self._closed.wait(pause)
        return self.transport.open_session(timeout=timeout)

    def _give_back(self, channel: paramiko.Channel) -> None:
        try:
            channel.close()
        finally:
            self._sessions.release()

    def _put_spare(self, channel: paramiko.Channel | None) -> None:
        with self._spare_lock:
            before = self._spare
            self._spare = None if channel is None else (channel, time.monotonic())
        if before is not None:
            self._give_back(before[0])

    def _take_spare(self) -> paramiko.Channel | None:
        with self._spare_lock:
            spare, self._spare = self._spare, None
        if spare is None:
            return None
        channel, opened_at = spare
        if channel.closed or time.monotonic() - opened_at > _SPARE_LASTS:
            self._give_back(channel)
            return None
        return channel


def _write_all(channel: paramiko.Channel, text: bytes) -> None:
    """Give a command its whole input. One that ends without reading it has said why in its output."""
    try:
        channel.sendall(text)
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        if is_lost(channel):
            raise


def _takes_long_commands(channel: Any) -> bool:
    """OpenSSH takes packets of 256 KiB; dropbear refuses commands over 9000 bytes, cmd.exe over 8191."""
    version: str = channel.transport.remote_version
    return version.startswith("SSH-2.0-OpenSSH_") and "Windows" not in version


def _request_exec(channel: paramiko.Channel, command: str) -> None:
    """`Channel.exec_command` without its wait for the reply, which has no time-out and costs a round trip.

    A refusal closes the channel (paramiko's own handler does), which readers see as an end of output.
    """
    _request(channel, "exec", command)


def _request_subsystem(channel: paramiko.Channel, name: str) -> None:
    _request(channel, "subsystem", name)


def _request(channel: Any, kind: str, value: str) -> None:
    """RFC 4254, 5.4: a channel request that wants a reply, sent and not waited for."""
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(kind)
    message.add_boolean(True)
    message.add_string(value)
    channel._event_pending()
    channel.transport._send_user_message(message)
