"""Running other programs within a deadline. Runs on the remote machine: Python >= 3.6, standard library."""

import contextlib
import os
import signal
import subprocess


class ToolFailed(Exception):
    """A program that cannot be run, or did not end in time. The message says which."""


def output_of(command: "list[str]", timeout: float) -> str:
    """What a program says within `timeout` seconds; empty if it does not, or is not there."""
    try:
        return run_tool(command, timeout)[1]
    except ToolFailed:
        return ""


def run_tool(command: "list[str]", timeout: float) -> "tuple[int, str, str]":
    """-> exit status, stdout, stderr. Raises `ToolFailed`.

    A program that even SIGKILL does not end (a driver or a file server that hangs) is left behind.
    """
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError as error:
        raise ToolFailed(f"{command[0]}: {error.strerror}") from None
    try:
        output, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        # Not waited for: the interpreter reaps it, or init does.
        child.poll()
        raise ToolFailed(f"{os.path.basename(command[0])} did not answer within {timeout:g} s") from None
    return child.returncode, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
