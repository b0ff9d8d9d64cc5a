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
from runicorn_remote.ssh.sftp import SftpSession
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.translate import link_errors
from runicorn_remote.ssh.transport import TunnelTransport

# More than any answer of ours; a host that sends more is broken or hostile.
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
_MAX_LINE_BYTES = 8 * 1024 * 1024
_CHUNK = 64 * 1024
_LOSS_SHOWS_WITHIN = 0.5


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

    def check(self, timeout: float) -> None:
        """Prove that the far side answers: open a session channel and close it. Raises `LinkLost`."""
        with self._session(timeout):
            pass

    def run_script(self, script: str, *, timeout: float) -> ScriptResult:
        """Run `script` with the host's `sh` and wait for its end.

        Raises `LinkLost`, or `RemoteCommandFailed` (`COMMAND_TIMEOUT`) after `timeout` seconds.
        """
        with self.open_script(script, timeout=timeout) as running:
            stdout = running.read()
            return ScriptResult(running.exit_status(), stdout, running.stderr())

    @contextmanager
    def open_script(self, script: str, *, timeout: float) -> Iterator[RunningScript]:
        """Start `script` with the host's `sh`; read its output while it runs.

        The login shell sees just `sh -s`, whatever shell it is; the script goes over stdin. Leaving
        the block closes the channel; the script notices when it next writes.
        """
        deadline = time.monotonic() + timeout
        with self._session(timeout) as channel, link_errors(self.target):
            _request_exec(channel, "sh -s")
            channel.settimeout(timeout)
            channel.sendall(script.encode())
            channel.shutdown_write()
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
        self._chain.close()

    def _sftp_client(self, channel: paramiko.Channel) -> paramiko.SFTPClient:
        try:
            return paramiko.SFTPClient(channel)
        except (EOFError, paramiko.SSHException) as error:
            if _is_lost(channel):
                raise
            raise RemoteCommandFailed(
                f"{self.target} offers no SFTP",
                code="SFTP_UNAVAILABLE",
                hint="Its sshd has no sftp subsystem, or allows this account one command only.",
            ) from error

    @contextmanager
    def _session(self, timeout: float) -> Iterator[paramiko.Channel]:
        """A session channel within the budget."""
        if not self._sessions.acquire(timeout=timeout):
            raise Busy(f"Too many commands at once on {self.target}", code="TOO_MANY_SESSIONS")
        try:
            with link_errors(self.target):
                channel = self.transport.open_session(timeout=min(timeout, self._channel_timeout))
            try:
                yield channel
            finally:
                channel.close()
        finally:
            self._sessions.release()


class RunningScript:
    """The output of a script that runs. For one thread."""

    def __init__(self, target: Target, channel: Any, deadline: float) -> None:
        self._target = target
        self._channel = channel
        self._deadline = deadline
        self._buffer = b""
        self._stderr = b""
        self._arrived = threading.Event()
        # Of two streams, so that one that nobody waits for cannot fill the window of the other.
        for stream in (channel.in_buffer, channel.in_stderr_buffer):
            stream.set_event(_Bell(self._arrived))
        channel.settimeout(0.0)

    def readline(self, timeout: float | None = None) -> bytes | None:
        """The next line without its end, or None at the end of the output.

        Raises TimeoutError after `timeout` seconds (nothing is lost; call again), and
        `RemoteCommandFailed` at the script's own deadline.
        """
        until = self._deadline if timeout is None else min(self._deadline, time.monotonic() + timeout)
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise RemoteCommandFailed("The host sent a line of over 8 MB", code="OUTPUT_TOO_LARGE")
            chunk = self._receive(until)
            if not chunk:
                line, self._buffer = self._buffer, b""
                return line or None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def read(self) -> bytes:
        """All output until the end."""
        chunks = [self._buffer]
        size = 0
        while chunk := self._receive(self._deadline):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_OUTPUT_BYTES:
                raise RemoteCommandFailed("The host sent over 16 MB of output", code="OUTPUT_TOO_LARGE")
        self._buffer = b""
        return b"".join(chunks)

    def stderr(self) -> bytes:
        """What the script wrote to stderr so far; at most its first 64 KB."""
        self._drain_stderr()
        return self._stderr

    def exit_status(self) -> int:
        """The exit status once the output has ended; -1 if the host does not send one."""
        remaining = max(0.0, min(2.0, self._deadline - time.monotonic()))
        if self._channel.status_event.wait(remaining):
            return self._channel.exit_status
        return -1

    def _receive(self, until: float) -> bytes:
        """The next piece of output; empty at its end."""
        while (remaining := until - time.monotonic()) > 0:
            self._arrived.clear()
            self._drain_stderr()
            try:
                chunk = self._channel.recv(_CHUNK)
            except TimeoutError:  # nothing there yet
                self._arrived.wait(remaining)
                continue
            if not chunk:
                self._check_whole()
            return chunk
        if until >= self._deadline:
            raise RemoteCommandFailed(f"{self._target} did not finish in time", code="COMMAND_TIMEOUT")
        raise TimeoutError

    def _check_whole(self) -> None:
        """Raise `LinkLost` if the output ended because the link did."""
        if self._channel.eof_received or self._channel.exit_status != -1:
            return
        if _is_lost(self._channel):  # else it is a host that runs no commands
            raise LinkLost(f"The SSH connection to {self._target} is lost")

    def _drain_stderr(self) -> None:
        """Unread stderr would fill the channel's window and stop the script."""
        while self._channel.recv_stderr_ready() and time.monotonic() < self._deadline:
            chunk = self._channel.recv_stderr(_CHUNK)
            if not chunk:
                return
            self._stderr = (self._stderr + chunk)[: 64 * 1024]


class _Bell:
    """What a stream of paramiko's rings when it has something, or has ended; it goes on until answered."""

    def __init__(self, event: threading.Event) -> None:
        self.set = event.set

    def clear(self) -> None:
        """The stream is empty; the other may not be."""


def _is_lost(channel: Any) -> bool:
    """Why a channel has ended: with its link, or alone. Channels see the end before the transport does."""
    channel.transport.join(_LOSS_SHOWS_WITHIN)
    return not channel.transport.is_active()


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
