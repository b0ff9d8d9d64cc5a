"""The command line as a person has it: in a terminal of its own, key by key.

with Terminal("--url", url, "connect", "me@gpu1") as terminal:
    terminal.expect("yes/no")
    terminal.type("yes")
    assert terminal.wait() == 0
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import pytest

from tests.hosts.server import REPOSITORY, clean_environment

TIMEOUT = 30.0
CTRL_C = "\x03"
_SIZE = (40, 160)  # lines, columns

# Makes the terminal on stdin the controlling one, so that Ctrl-C and /dev/tty are what they are for people.
_LAUNCHER = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "runicorn_remote", *sys.argv[1:]])
"""
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


class Terminal:
    """One run of `runicorn-remote`. `stdout`, a file, is where its output goes instead, if given."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str] | None = None, stdout: Path | None = None
    ) -> None:
        self._arguments = arguments
        self._environment = {
            **clean_environment(),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        self._stdout = stdout
        self._seen = 0
        # All it has printed, as bytes that a terminal would get.
        self.raw = ""

    def __enter__(self) -> Terminal:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, slave)
            stdout = opened.enter_context(self._stdout.open("wb")) if self._stdout else slave
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, *self._arguments],
                stdin=slave,
                stdout=stdout,
                stderr=slave,
                env=self._environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(TIMEOUT)
        os.close(self._master)

    @property
    def text(self) -> str:
        """All it has printed, without colours and other commands to the terminal."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def expect(self, wanted: str, timeout: float = TIMEOUT) -> None:
        """Wait until it prints this, behind what was expected before."""
        deadline = time.monotonic() + timeout
        while (at := self.text.find(wanted, self._seen)) < 0:
            if not self._read(deadline - time.monotonic()):
                pytest.fail(f"the terminal does not show {wanted!r}:\n{self.text}")
        self._seen = at + len(wanted)

    def type(self, line: str) -> None:
        self.press(line + "\n")

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def echoes(self) -> bool:
        """Whether what is typed now would be shown."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Read until it ends; its exit status."""
        deadline = time.monotonic() + timeout
        while self._read(deadline - time.monotonic()):
            pass
        try:
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not end:\n{self.text}")

    def _read(self, timeout: float) -> bool:
        """False when there is nothing more, or not in time."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, timeout))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the other side is closed
            data = b""
        self.raw += data.decode("utf-8", "replace")
        return bool(data)
