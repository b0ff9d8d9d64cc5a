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


class RunningCommands:
    """All commands of one host. Only the host's own thread calls this."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._tasks: set[asyncio.Task[None]] = set()
        self._killing = asyncio.Event()

    async def run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Serve one channel: three pipes, an exit status, an end when the channel ends."""
        # A task of our own: that of the connection may be gone before the command is.
        task = asyncio.create_task(self._run(process), name="ssh-command")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def kill_all(self) -> None:
        """Kill whatever is in the foreground of a channel, now, and wait for its end."""
        self._killing.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_KILL_TIMEOUT)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = ["/bin/sh"] if process.command is None else ["/bin/sh", "-c", process.command]
        child_stdin, stdin = os.pipe()
        stdout, child_stdout = os.pipe()
        stderr, child_stderr = os.pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
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
        await process.redirect(stdin=stdin, stdout=stdout, stderr=stderr)
        finished = asyncio.create_task(_finish(process, child))
        for ending in (process.channel.wait_closed(), self._killing.wait()):
            ...
        await self._hang_up(child)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
