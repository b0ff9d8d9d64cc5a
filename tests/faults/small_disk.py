"""A state directory on a disk that can be full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_SIZE = "256k"
_TIMEOUT = 10.0
_FILLER = "filler"


class SmallDisk:
    """As root a tiny file system at `directory`. Else the server gets a limit of the size of its files.

    `fill` and `free` take the pid of the server, for the latter.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mounted = False

    def __enter__(self) -> SmallDisk:
        if sys.platform == "linux" and os.geteuid() == 0:
            command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "tmpfs", self._directory]
            done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
            self._mounted = done.returncode == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mounted:
            subprocess.run(
                ["umount", "-l", self._directory], capture_output=True, timeout=_TIMEOUT, check=False
            )

    def fill(self, pid: int) -> None:
        if not self._mounted:
            _limit_file_size(pid, 1)
            return
        with (self._directory / _FILLER).open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def free(self, pid: int) -> None:
        if self._mounted:
            (self._directory / _FILLER).unlink()
        else:
            _limit_file_size(pid, None)


def _limit_file_size(pid: int, size: int | None) -> None:
    import resource

    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
