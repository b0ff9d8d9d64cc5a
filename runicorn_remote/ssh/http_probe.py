"""One HTTP GET to a port of the remote host, over a channel of its own.

It does not go through a tunnel's local port, so it counts as nobody's traffic.
"""

from __future__ import annotations

import http.client
import io
import time
from dataclasses import dataclass
from typing import Any

import paramiko

from runicorn_remote.errors import LinkLost, RemoteError

from .transport import TunnelTransport

MAX_BODY = 256 * 1024
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class HttpAnswer:
    """`body` is cut off after `MAX_BODY` bytes."""

    status: int
    body: bytes


class ProbeFailed(RemoteError):
    """The link is up, and no HTTP answer came from that port. `timed_out`: nothing came in time."""

    code = "PROBE_FAILED"

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


def probe_http(transport: TunnelTransport, remote_port: int, path: str, timeout: float) -> HttpAnswer:
    """GET `path` from 127.0.0.1:`remote_port` of the remote host, all within `timeout` seconds.

    Any thread; blocks. `path` is ours and must be a valid request target. Raises `ProbeFailed`, and
    `LinkLost` when the SSH connection has ended. After a time-out the caller cannot know which of
    the two it is: a link that died silently answers nothing either.
    """
    deadline = time.monotonic() + timeout
    try:
        channel = _open(transport, remote_port, deadline)
        try:
            return _get(channel, remote_port, path, deadline)
        finally:
            channel.close()
    except (http.client.HTTPException, ValueError) as error:
        raise ProbeFailed(f"Port {remote_port} does not speak HTTP: {type(error).__name__}") from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        if not transport.is_active():
            raise LinkLost("the SSH connection has ended") from error
        if time.monotonic() >= deadline:
            raise ProbeFailed(
                f"Port {remote_port} did not answer within {timeout:g} s", timed_out=True
            ) from error
        raise ProbeFailed(f"Port {remote_port} does not accept connections") from error


def _open(transport: TunnelTransport, remote_port: int, deadline: float) -> paramiko.Channel:
    if not transport.clear_to_send.wait(_remaining(deadline)):  # else open_channel waits, longer than we may
        raise TimeoutError
    return transport.open_channel(
        "direct-tcpip", (_LOOPBACK, remote_port), (_LOOPBACK, 0), timeout=_remaining(deadline)
    )


def _get(channel: paramiko.Channel, remote_port: int, path: str, deadline: float) -> HttpAnswer:
    connection = http.client.HTTPConnection(_LOOPBACK, remote_port)
    connection.sock = _ChannelSocket(channel, deadline)
    connection.request("GET", path, headers={"Connection": "close", "Accept": "application/json"})
    with connection.getresponse() as response:
        body = response.read(MAX_BODY)
        if len(body) < MAX_BODY and response.length:
            raise http.client.IncompleteRead(body, response.length)
        return HttpAnswer(response.status, body)


def _remaining(deadline: float) -> float:
    """-> seconds, more than 0. Raises `TimeoutError`."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _ChannelSocket:
    """As much of a socket as http.client needs, with one deadline for all operations."""

    def __init__(self, channel: paramiko.Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._channel.settimeout(_remaining(self._deadline))
        self._channel.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_ChannelReader(self._channel, self._deadline))

    def close(self) -> None:
        """http.client does this while the response is still to be read, so it does nothing."""


class _ChannelReader(io.RawIOBase):
    def __init__(self, channel: paramiko.Channel, deadline: float) -> None:
        super().__init__()
        self._channel = channel
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._channel.settimeout(_remaining(self._deadline))
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)
