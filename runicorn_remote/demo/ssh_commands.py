"""The commands that clients of the embedded SSH host run: `/bin/sh -c`, as sshd does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncssh

# Seconds between the hang-up signal to a command that lost its channel, and its end by force.
_HANGUP_GRACE = 10.0
_KILL_TIMEOUT = 5.0
_CHUNK = 64 * 1024


class RunningCommands:
    """All commands of one host. Only the host's own thread calls this."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._tasks: set[asyncio.Task[None]] = set()
        self._end_all = asyncio.Event()

    def start(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Serve one channel: three pipes, an exit status, an end when the channel ends."""
        task = asyncio.create_task(self._serve(process), name="ssh-command")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end_all(self) -> None:
        """Kill whatever is in the foreground of a channel, now, and wait for its end."""
        self._end_all.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_KILL_TIMEOUT)

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        stderr, child_stderr = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *_words(process.command),
                stdin=child_stdin,
                stdout=child_stdout,
                stderr=child_stderr,
                cwd=self._home,
                env=dict(self._environment),
                start_new_session=True,
            )
        except OSError:
            _close(stdin, stdout, stderr)
            process.exit(126)
            return
        finally:
            _close(child_stdin, child_stdout, child_stderr)
        feed = asyncio.create_task(_copy_in(process.stdin, stdin))
        finished = asyncio.create_task(_copy_all_out(process, stdout, stderr, child))
        hung_up = asyncio.create_task(process.channel.wait_closed())
        end_all = asyncio.create_task(self._end_all.wait())
        await asyncio.wait((finished, hung_up, end_all), return_when=asyncio.FIRST_COMPLETED)
        if finished.done():
            _tell_exit(process, finished.result())
        await _cancel(feed, finished, hung_up)
        if child.returncode is None:
            await self._hang_up(child, end_all)
        await _cancel(end_all)

    async def _hang_up(self, child: asyncio.subprocess.Process, end_all: asyncio.Task[bool]) -> None:
        """What a dropped line does: SIGHUP to the foreground's group. Other sessions live on."""
        ended = asyncio.create_task(child.wait())
        _signal_group(child.pid, signal.SIGHUP)
        await asyncio.wait((ended, end_all), timeout=_HANGUP_GRACE, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _signal_group(child.pid, signal.SIGKILL)
        await ended


def _words(command: str | None) -> list[str]:
    return ["/bin/sh"] if command is None else ["/bin/sh", "-c", command]


async def _copy_all_out(
    process: asyncssh.SSHServerProcess[bytes],
    stdout: int,
    stderr: int,
    child: asyncio.subprocess.Process,
) -> int:
    """-> the exit status, once nobody holds the output pipes any more; negative is a signal's number."""
    await asyncio.gather(_copy_out(stdout, process.stdout), _copy_out(stderr, process.stderr))
    return await child.wait()


async def _copy_out(descriptor: int, writer: asyncssh.SSHWriter[bytes]) -> None:
    """From a pipe to the channel, no faster than the client reads."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncssh.Error):
        pass  # the channel is gone
    finally:
        transport.close()


async def _copy_in(reader: asyncssh.SSHReader[bytes], descriptor: int) -> None:
    """From the channel to a pipe, no faster than the command reads."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(descriptor, "wb", buffering=0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except (OSError, asyncssh.Error, asyncssh.SignalReceived, asyncssh.BreakReceived):
        pass  # the command has closed its input, or the channel is gone
    finally:
        transport.close()


def _tell_exit(process: asyncssh.SSHServerProcess[bytes], status: int) -> None:
    with contextlib.suppress(OSError):  # the channel closed in between
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)


async def _cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
