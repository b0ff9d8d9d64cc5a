"""Running a program whose lines somebody follows. Runs on the remote machine: Python >= 3.6."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import Callable  # noqa: UP035

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.private_files import without_escapes
from runicorn_remote.onhost.processes import end_group, start_time

_LONGEST_LINE = 300
# Of a package index that wants a password.
_USER_INFO = re.compile(r"(://)[^/\s@]+@")


class FollowerGone(Exception):
    """Nobody reads our answers any more: it was cancelled, or the connection is gone."""


def follow(
    command: "list[str]", environ: "dict[str, str]", deadline: float, tell: "Callable[[str], None]"
) -> int:
    """Run a program with `tell` for each line it prints, and return its exit status.

    It ends, with all it started, when this does. Raises Failure INSTALL_TIMEOUT at `deadline` (monotonic),
    INSTALL_FAILED if it cannot be run, `FollowerGone`, and what `tell` raises.
    """
    try:
        child = subprocess.Popen(
            [os.fsencode(word) for word in command],
            cwd="/",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise Failure("INSTALL_FAILED", f"{command[0]}: {error.strerror}") from None
    started = start_time(child.pid)
    try:
        for line in _lines_of(child, deadline):
            shown = _USER_INFO.sub(r"\1***@", without_escapes(line))[:_LONGEST_LINE]
            if shown:
                tell(shown)
        return child.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _too_late(command[0]) from None
    finally:
        if child.poll() is None:
            end_group(child.pid, started, 2.0)
            child.poll()


def _lines_of(child, deadline):  # type: ignore[no-untyped-def]
    """What it prints, line by line; a progress bar's returns count as ends of lines."""
    assert child.stdout is not None
    interrupted = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, frame: interrupted.append(number))
    poller = select.poll()
    poller.register(child.stdout, select.POLLIN)
    poller.register(1, 0)  # Errors and hang-ups are told without being asked for.
    rest = b""
    next_test = time.monotonic() + 1.0
    while True:
        now = time.monotonic()
        if now >= deadline:
            raise _too_late("The installation")
        if interrupted:
            raise FollowerGone()
        if now >= next_test:
            next_test = now + 1.0
            _test_follower()
        events = dict(poller.poll(500))
        if 1 in events:
            raise FollowerGone()
        if child.stdout.fileno() in events:
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                break
            lines = re.split(b"[\r\n]", rest + chunk)
            rest = lines.pop()[-65536:]
            for line in lines:
                yield line.decode("utf-8", "replace")
    yield rest.decode("utf-8", "replace")


def _test_follower() -> None:
    # For systems whose poll() says nothing about the other end of a pipe.
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        raise FollowerGone() from None


def _too_late(what: str) -> Failure:
    return Failure("INSTALL_TIMEOUT", f"{os.path.basename(what)} did not end in time")
