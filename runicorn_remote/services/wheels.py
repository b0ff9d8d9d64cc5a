"""The packages runicorn needs on a host, fetched here, by this machine's pip and its configuration.

pip decides what an environment needs by the markers of the Python *it* runs in, also when it is told to
download for another (pypa/pip#11664): what only the host needs is found by reading the wheels' own
metadata, and asked for by name.
"""

from __future__ import annotations

import contextlib
import email.parser
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from runicorn_remote.errors import InstallCancelled, InstallFailed
from runicorn_remote.services.host_platform import HostPlatform

# How often what was missing may bring what is missing next.
_MAX_ROUNDS = 6
_POLL = 0.2
_KILL_TIMEOUT = 5.0
_USER_INFO = re.compile(r"(://)[^/\s@]+@")


class Wheelhouse:
    """Downloads into one directory. For one thread.

    `tell` is called with each line pip prints, `remaining` gives the seconds that are left, `cancelled`
    ends it.
    """

    def __init__(
        self,
        directory: Path,
        platform: HostPlatform,
        *,
        tell: Callable[[str], None],
        remaining: Callable[[], float],
        cancelled: threading.Event,
    ) -> None:
        self._directory = directory
        self._platform = platform
        self._tell = tell
        self._remaining = remaining
        self._cancelled = cancelled

    def fetch(self, requirement: str) -> list[Path]:
        """The wheels of `requirement`, of all it needs on the host, and of pip itself.

        Raises `InstallFailed` (WHEELS_UNAVAILABLE, INSTALL_TIMEOUT), `InstallCancelled`.
        """
        wanted = [requirement, "pip"]
        for _ in range(_MAX_ROUNDS):
            self._download(wanted)
            missing = sorted(self._missing(requirement))
            if not missing:
                return sorted(self._directory.glob("*.whl"))
            self._tell(f"The host also needs {', '.join(missing)}")
            wanted += missing
        raise _unavailable(f"what {requirement} needs cannot be told")

    def _download(self, wanted: list[str]) -> None:
        command = [sys.executable, "-m", "pip", "download", "--dest", str(self._directory)]
        command += ["--only-binary=:all:", "--no-input", "--progress-bar", "off", "--no-color"]
        command += ["--disable-pip-version-check", "--retries", "1", *self._platform.pip_options(), *wanted]
        last = ""
        with _running(command) as (process, lines):
            while (line := self._next(lines)) is not None:
                if line:
                    self._tell(line)
                    last = line
            if process.wait(_KILL_TIMEOUT) == 0:
                return
        raise _unavailable(last or "pip said nothing")

    def _next(self, lines: queue.SimpleQueue[str | None]) -> str | None:
        while True:
            if self._cancelled.is_set():
                raise InstallCancelled("the installation was cancelled")
            if self._remaining() <= 0:
                raise InstallFailed("the packages did not arrive in time", code="INSTALL_TIMEOUT")
            with contextlib.suppress(queue.Empty):
                return lines.get(timeout=_POLL)

    def _missing(self, requirement: str) -> set[str]:
        """What the wheels say they need on the host, and is not among them."""
        wheels = {name: path for path in self._directory.glob("*.whl") if (name := _name_of(path))}
        missing: set[str] = set()
        seen: set[tuple[str, str]] = set()
        todo = [(Requirement(requirement).name, "")]
        while todo:
            name, extra = todo.pop()
            name = canonicalize_name(name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for needed in _requirements(wheels[name]) if name in wheels else ():
                markers = {**self._platform.markers, "extra": extra}
                if needed.marker is not None and not needed.marker.evaluate(markers):
                    continue
                todo += [(needed.name, each) for each in ("", *needed.extras)]
                if canonicalize_name(needed.name) not in wheels:
                    needed.marker = None
                    missing.add(str(needed))
        return missing


def _name_of(wheel: Path) -> str | None:
    try:
        return parse_wheel_filename(wheel.name)[0]
    except InvalidWheelFilename:
        return None


def _requirements(wheel: Path) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            directory, _, name = member.partition("/")
            if name == "METADATA" and directory.endswith(".dist-info"):
                text = archive.read(member).decode("utf-8", "replace")
                for line in email.parser.HeaderParser().parsestr(text).get_all("Requires-Dist", []):
                    with contextlib.suppress(InvalidRequirement):
                        yield Requirement(line)


@contextlib.contextmanager
def _running(
    command: list[str],
) -> Iterator[tuple[subprocess.Popen[str], queue.SimpleQueue[str | None]]]:
    """A program and a queue of its lines, None at their end. It does not outlive the block."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise _unavailable(str(error)) from error
    reader = threading.Thread(target=_read, args=(process, lines), name="wheels", daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        if process.poll() is None:
            _kill(process)
        process.wait(_KILL_TIMEOUT)
        reader.join(_KILL_TIMEOUT)
        assert process.stdout is not None
        process.stdout.close()


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(_USER_INFO.sub(r"\1***@", line.strip()))
    lines.put(None)


def _kill(process: subprocess.Popen[str]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _unavailable(reason: str) -> InstallFailed:
    return InstallFailed(reason, code="WHEELS_UNAVAILABLE")
