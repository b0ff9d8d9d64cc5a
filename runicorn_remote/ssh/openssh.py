"""`ssh -G`: what OpenSSH itself makes of its configuration. No shell is involved."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from typing import Any

from runicorn_remote.errors import SshConfigUnusable

logger = logging.getLogger(__name__)

_MAX_ERROR = 300


def ask_openssh(
    program: str, arguments: list[str], host: str, port: int | None, user: str | None, *, timeout: float
) -> dict[str, list[str]]:
    """Keyword in small letters -> its values, as `ssh -G` prints them. Waits at most `timeout` seconds.

    Raises `SshConfigUnusable` with what ssh complains of.
    """
    command = [program, "-G", *arguments]
    if port is not None:
        command += ["-p", str(port)]
    if user is not None:
        command += ["-l", user]
    status, output, complaint = _run([*command, "--", host], timeout)
    if status != 0:
        lines = [line.strip() for line in complaint.splitlines() if line.strip()]
        reason = "; ".join(lines) or f"ssh -G ended with status {status}"
        raise SshConfigUnusable(
            f"ssh_config, for {host}: {reason[:_MAX_ERROR]}", hint=f"ssh -G {host} says the same."
        )
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def _run(command: list[str], timeout: float) -> tuple[int, str, str]:
    """-> exit status, output, errors. What `Match exec` started ends with it."""
    try:
        # A group of its own: a command of Match exec could otherwise outlive ssh, and hold the pipes.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise SshConfigUnusable(f"{command[0]} cannot be run: {error.strerror or error}") from error
    with process:
        try:
            output, complaint = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            kill_group(process)
            raise SshConfigUnusable(
                f"ssh -G took longer than {timeout:g} s", hint="A command of Match exec, or DNS, is slow."
            ) from error
        except BaseException:
            kill_group(process)
            raise
    return process.returncode, output, complaint


def kill_group(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a group and was not waited for yet, and all that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
