"""The output of a script that runs on a host, read as it comes."""

from __future__ import annotations

import threading
import time
from typing import Any

from runicorn_remote.errors import LinkLost, RemoteCommandFailed
from runicorn_remote.ssh.target import Target

# More than any answer of ours; a host that sends more is broken or hostile.
MAX_OUTPUT_BYTES = 16 * 1024 * 1024
_MAX_LINE_BYTES = 8 * 1024 * 1024
_CHUNK = 64 * 1024
_LOSS_SHOWS_WITHIN = 0.5


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
        if is_lost(self._channel):  # else it is a host that runs no commands
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


def is_lost(channel: Any) -> bool:
    """Why a channel has ended: with its link, or alone. Channels see the end before the transport does."""
    channel.transport.join(_LOSS_SHOWS_WITHIN)
    return not channel.transport.is_active()
