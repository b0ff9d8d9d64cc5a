"""The steps of an installation: from the index if the host reaches one, else with packages from here.

install on the host ── done
      │ the index gave nothing, or there is no installer
      ▼
pip download here, for the host's Python ── SFTP ── install there without an index
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

from runicorn_remote import onhost
from runicorn_remote.errors import (
    EnvironmentNotFound,
    InstallCancelled,
    InstallFailed,
    RemoteError,
)
from runicorn_remote.services.host_platform import read_platform
from runicorn_remote.services.install_job import InstallJob
from runicorn_remote.services.wheels import Wheelhouse
from runicorn_remote.ssh.host import RemoteHost

# How soon a cancelled installation is noticed while the host says nothing.
_CANCEL_POLL = 0.2
# For the way there and back, on top of what the script itself may take.
_GRACE = 10.0
_PRIVATE = "Leave conda_env out (runicorn-remote install without --env) to use an environment of its own."
_HINTS = {
    "EXTERNALLY_MANAGED": _PRIVATE,
    "ENVIRONMENT_READ_ONLY": _PRIVATE,
    "PYTHON_TOO_OLD": "Install a newer Python for this account, with uv, miniforge or pyenv.",
    "DISK_FULL": "Make room, or ask for a larger quota; runicorn and what it needs take some 150 MB.",
}


class Installer:
    """One installation, for one thread. `timeout` in seconds is for all its steps together."""

    def __init__(self, host: RemoteHost, job: InstallJob, timeout: float) -> None:
        self._host = host
        self._job = job
        self._deadline = time.monotonic() + timeout

    def run(self) -> dict[str, Any]:
        """-> the job's result. Raises `InstallFailed`, `EnvironmentNotFound`, `SSHError`."""
        last = self._ask(wheels=None)
        source = "index"
        if last["event"] == "wheels_wanted":
            source = "wheels"
            last = self._with_wheels(last)
        return {
            "condaEnv": _text(last, "environment"),
            "python": _text(last, "python"),
            "runicornVersion": _text(last, "runicorn"),
            "source": source,
        }

    def _with_wheels(self, wanted: dict[str, Any]) -> dict[str, Any]:
        reason, directory = _text(wanted, "reason", 500), _text(wanted, "directory")
        try:
            self._job.tell(f"The host cannot install from an index ({reason}); packages are fetched here")
            with tempfile.TemporaryDirectory(prefix="runicorn-remote-") as here:
                self._copy(self._fetch(Path(here), wanted, reason), directory)
        except BaseException:
            self._discard(directory)
            raise
        self._job.set_phase("installing")
        answer = self._ask(wheels=directory)
        if answer["event"] != "installed":
            raise InstallFailed("the host did not use the packages")
        return answer

    def _fetch(self, here: Path, wanted: dict[str, Any], reason: str) -> list[Path]:
        self._job.set_phase("downloading")
        house = Wheelhouse(
            here,
            read_platform(wanted.get("target")),
            tell=self._job.tell,
            remaining=self._remaining,
            cancelled=self._job.cancelled,
        )
        try:
            return house.fetch(f"runicorn=={self._job.version}")
        except InstallFailed as error:
            if error.code != "WHEELS_UNAVAILABLE":
                raise
            raise InstallFailed(
                f"neither the host ({reason}) nor this server ({error.reason}) gets it from a package index",
                code="WHEELS_UNAVAILABLE",
                hint="One of the two has to reach an index that has this version for the host's Python. "
                "pip's own configuration (PIP_INDEX_URL, pip.conf) names one.",
            ) from error

    def _discard(self, directory: str) -> None:
        """If the host can still be asked; else they go with the next installation there."""
        program = onhost.build("discard_wheels", {"directory": directory})
        with contextlib.suppress(RemoteError):
            self._host.run_script(program.script, timeout=_GRACE)

    def _copy(self, wheels: list[Path], directory: str) -> None:
        self._job.set_phase("copying")
        size = sum(wheel.stat().st_size for wheel in wheels)
        self._job.tell(f"Copying {len(wheels)} packages to the host, {size / 1e6:.1f} MB")
        with self._host.sftp(timeout=max(1.0, self._remaining())) as sftp:
            for wheel in wheels:
                self._check_cancelled()
                sftp.put(wheel, f"{directory}/{wheel.name}")

    def _ask(self, *, wheels: str | None) -> dict[str, Any]:
        """The last event of the host's `install`."""
        timeout = max(1.0, self._remaining())
        arguments = {"environment": self._job.environment, "version": self._job.version}
        program = onhost.build("install", {**arguments, "wheels": wheels, "timeout": timeout})
        last: dict[str, Any] | None = None
        with self._host.open_script(program.script, timeout=timeout + _GRACE) as running:
            while True:
                self._check_cancelled()
                try:
                    line = running.readline(timeout=_CANCEL_POLL)
                except TimeoutError:
                    continue
                if line is None:
                    break
                event = program.event(line)
                if event is not None:
                    last = event
                    self._heed(event)
            if last is None:
                raise onhost.no_answer(b"", running.stderr(), running.exit_status())
        if "error" in last:
            raise _failure(last)
        if last.get("event") not in ("installed", "wheels_wanted"):
            raise InstallFailed("the host stopped answering in the middle")
        return last

    def _heed(self, event: dict[str, Any]) -> None:
        if event.get("event") == "prepared":
            self._job.set_phase("installing")
            made = "new environment" if event.get("created") is True else "environment"
            self._job.tell(
                f"Installing runicorn {self._job.version} with {_text(event, 'tool')} into the {made} "
                f"{_text(event, 'environment')} ({_text(event, 'python')})"
            )
        elif event.get("event") == "line":
            self._job.tell(_text(event, "text", 1000))

    def _check_cancelled(self) -> None:
        if self._job.cancelled.is_set():
            raise InstallCancelled("it was cancelled")

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()


def _failure(event: dict[str, Any]) -> RemoteError:
    failure = onhost.Program.failure(event)
    if failure.code == "ENVIRONMENT_NOT_FOUND":
        return EnvironmentNotFound(failure.reason)
    return InstallFailed(failure.reason, code=failure.code, hint=_HINTS.get(failure.code))


def _text(event: dict[str, Any], name: str, longest: int = 4096) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not value or len(value) > longest:
        raise onhost.bad_answer()
    return onhost.shown(value, longest)
