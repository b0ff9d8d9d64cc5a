"""Put runicorn into an environment. Runs on the remote machine: Python >= 3.6, standard library.

Events, in order:
    {"event": "prepared", "python", "environment", "tool": "uv" or "pip", "private", "created"}
    {"event": "line", "text"}                           what the tool prints
and one of these as the last:
    {"event": "installed", "python", "environment", "runicorn"}
    {"event": "wheels_wanted", "reason", "directory", "target"}
            the index gave nothing: put packages for this target (see `interpreters`) into that directory,
            and ask again with it; it is removed then
    {"error", "message"}                                nothing of ours is left
An environment that was there before is never removed; nothing is done with more rights than the account's.
"""

import errno
import hashlib
import os
import re
import shutil
import time
from typing import Any

from runicorn_remote.onhost.common import Failure, emit
from runicorn_remote.onhost.environments import find, find_one
from runicorn_remote.onhost.interpreters import OLDEST_PYTHON, ask_interpreter, base_python, find_uv, pip_of
from runicorn_remote.onhost.paths import home_directory
from runicorn_remote.onhost.private_files import to_path, to_text
from runicorn_remote.onhost.private_places import PRIVATE_NAME, private_prefixes
from runicorn_remote.onhost.private_venv import (
    is_wheels_directory,
    new_wheels_directory,
    only_one,
    private_prefix,
    wheels_in,
)
from runicorn_remote.onhost.streaming import FollowerGone, follow

_NO_SPACE = re.compile(
    r"No space left on device|Disk quota exceeded|\[Errno (?:28|122|69)\]|os error (?:28|122)"
)
_READ_ONLY = re.compile(r"Read-only file system|\[Errno 30\]|os error 30")


def main(arguments: "dict[str, Any]") -> None:
    """`environment` (a name, a path, or None for our private one), `version`, `wheels` (the directory of a
    `wheels_wanted`, or None), `timeout` in seconds.
    """
    home = home_directory()
    wheels = to_path(arguments["wheels"]) if arguments.get("wheels") else None
    if wheels and not is_wheels_directory(wheels, home):
        raise Failure("INVALID_VALUE", "wheels: not a directory of ours")
    try:
        name = arguments.get("environment")
        environment = find_one(name, home) if name else None
        if name and environment is None and name != PRIVATE_NAME:
            raise Failure(
                "ENVIRONMENT_NOT_FOUND",
                "Environment '" + name + "' not found. Please check the environment name.",
            )
        if environment is None or environment["prefix"] in private_prefixes(home):
            place = PRIVATE_NAME
        else:
            place = environment["prefix"]
        with only_one(home, hashlib.sha256(place.encode("utf-8")).hexdigest()[:16]):
            _Installation(home, environment, arguments, wheels).run()
    except OSError as error:
        # Before any tool runs that would say so.
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full() from None
        if error.errno == errno.EROFS:
            raise _read_only() from None
        raise
    except FollowerGone:
        # What is still buffered would fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        if wheels:
            shutil.rmtree(wheels, ignore_errors=True)


class _Installation:
    """`environment` is what `find_one` gives, or None for our private one."""

    def __init__(
        self,
        home: str,
        environment: "dict[str, Any] | None",
        arguments: "dict[str, Any]",
        wheels: "str | None",
    ) -> None:
        self._home = home
        self._environment = environment
        self._version = arguments["version"]
        self._wheels = wheels
        self._deadline = time.monotonic() + float(arguments["timeout"])
        self._uv = find_uv(home)
        self._tail: list[str] = []
        self._created: str | None = None
        self._name = environment["name"] if environment else PRIVATE_NAME

    def run(self) -> None:
        installed = False
        try:
            python = self._interpreter()
            about = ask_interpreter(python)
            self._check(about, python)
            installed = self._install(python, about)
        finally:
            # Half an environment is worse than none. Only one that was not there before.
            if self._created is not None and not installed:
                shutil.rmtree(self._created, ignore_errors=True)

    def _install(self, python: str, about: "dict[str, Any]") -> bool:
        """False if packages have to be brought first."""
        command = self._command(python, about)
        if command is None:
            return self._want_wheels("neither uv nor pip is there", about)
        self._prepared(python, "uv" if command[0] == self._uv else "pip")
        began = time.monotonic()
        status = follow([*command, "runicorn==" + self._version], _environ(), self._deadline, self._tell)
        if status:
            self._raise_if_the_disk_is_to_blame()
            if self._wheels:
                raise Failure("INSTALL_FAILED", self._said())
            return self._want_wheels(self._said(), about)
        self._finish(python, time.monotonic() - began)
        return True

    def _want_wheels(self, reason: str, about: "dict[str, Any]") -> bool:
        directory = to_text(new_wheels_directory(self._home))
        emit({"event": "wheels_wanted", "reason": reason, "directory": directory, "target": about["target"]})
        return False

    def _finish(self, python: str, seconds: float) -> None:
        found = ask_interpreter(python)["runicorn"]
        if found is None:
            raise Failure(
                "INSTALL_FAILED",
                "The installer says that it is done, and runicorn is not there: a setting of "
                "it (target, prefix) puts packages elsewhere",
            )
        emit(
            {
                "event": "installed",
                "python": to_text(python),
                "environment": self._name,
                "runicorn": found,
                "seconds": round(seconds, 1),
            }
        )

    # --- where

    def _interpreter(self) -> str:
        """The interpreter of the environment that is meant; the private one is made if it is not there."""
        if self._environment is not None:
            return to_path(self._environment["python"])
        environments = find(self._home)
        private = private_prefixes(self._home)
        for environment in environments:
            if environment["prefix"] in private:
                self._name = environment["name"]
                return to_path(environment["python"])
        return self._make_private(environments)

    def _make_private(self, environments: "list[dict[str, Any]]") -> str:
        base, series = base_python(environments)
        prefix = private_prefix(self._home, series)
        if os.path.lexists(prefix):  # its Python is gone, else it had been found
            shutil.rmtree(prefix)
        self._created = prefix
        if self._uv:
            command = [self._uv, "venv", "--python", base, prefix]
        else:
            # Without pip: Debian has the module for it in a package of its own. Another pip will do.
            command = [base, "-I", "-m", "venv", "--without-pip", prefix]
        if follow(command, _environ(), self._deadline, self._tell):
            self._raise_if_the_disk_is_to_blame()
            raise Failure("INSTALL_FAILED", self._said())
        os.chmod(prefix, 0o700)
        return os.path.join(prefix, "bin", "python")

    def _check(self, about: "dict[str, Any]", python: str) -> None:
        """Raises Failure for an environment that is not this account's to change."""
        if about["managed"]:
            raise Failure(
                "EXTERNALLY_MANAGED",
                "The Python " + python + " belongs to the operating system's package manager (PEP 668)",
            )
        site = about["site"]
        while not os.path.exists(site) and site != os.path.dirname(site):
            site = os.path.dirname(site)
        if not os.access(site, os.W_OK | os.X_OK):
            raise Failure("ENVIRONMENT_READ_ONLY", "This account may not write to " + to_text(site))
        if tuple(about["version"]) < OLDEST_PYTHON:
            raise Failure(
                "PYTHON_TOO_OLD",
                "Runicorn needs Python 3.10 or newer; the one of the environment is "
                + ".".join(map(str, about["version"])),
            )

    # --- with what

    def _command(self, python: str, about: "dict[str, Any]") -> "list[str] | None":
        """The command that installs what is named behind it; None if there is none."""
        options: list[str] = []
        if self._wheels:
            options = ["--no-index", "--find-links", self._wheels]
        elif self._uv:
            return [self._uv, "pip", "install", "--python", python]
        pip = pip_of(python, about) or self._bundled_pip(python)
        if pip is None:
            return None
        # One more try and no more: without a network there is another way.
        quick = ["--retries", "1", "--timeout", "15"]
        return [*pip, "install", "--no-user", "--prefer-binary", *quick, *options]

    def _bundled_pip(self, python: str) -> "list[str] | None":
        """pip as it came with the packages: a wheel can be run without being installed."""
        if self._wheels:
            for name in wheels_in(self._wheels):
                if name.startswith("pip-"):
                    return [python, "-I", os.path.join(self._wheels, name, "pip")]
        return None

    # --- what is told

    def _prepared(self, python: str, tool: str) -> None:
        emit(
            {
                "event": "prepared",
                "python": to_text(python),
                "environment": self._name,
                "tool": tool,
                "created": self._created is not None,
            }
        )

    def _tell(self, line: str) -> None:
        self._tail = [*self._tail[-20:], line]
        try:
            emit({"event": "line", "text": line})
        except OSError:
            raise FollowerGone() from None

    def _said(self) -> str:
        """Why it failed: the last line that says so."""
        errors = [line for line in self._tail if re.search(r"error|failed", line, re.IGNORECASE)]
        return (errors or self._tail or ["the installer said nothing"])[-1]

    def _raise_if_the_disk_is_to_blame(self) -> None:
        said = "\n".join(self._tail)
        if _NO_SPACE.search(said):
            raise _disk_full()
        if _READ_ONLY.search(said):
            raise _read_only()


def _disk_full() -> Failure:
    return Failure("DISK_FULL", "There is no space left on the host, or in the account's quota")


def _read_only() -> Failure:
    return Failure("ENVIRONMENT_READ_ONLY", "The environment lies on a read-only file system")


def _environ() -> "dict[str, str]":
    environ = dict(os.environ)
    # Of pip and of uv: say it plainly, ask nothing, and change nothing but what was named.
    environ.update(
        PYTHONUNBUFFERED="1",
        PYTHONUTF8="1",
        NO_COLOR="1",
        PIP_NO_INPUT="1",
        PIP_NO_COLOR="1",
        PIP_PROGRESS_BAR="off",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        UV_NO_PROGRESS="1",
        UV_HTTP_TIMEOUT="15",
    )
    for name in (
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_ROOT",
        "PIP_USER",
        "PIP_BREAK_SYSTEM_PACKAGES",
        "PIP_PYTHON",
    ):
        environ.pop(name, None)
    for name in ("UV_TARGET", "UV_PREFIX", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "VIRTUAL_ENV"):
        environ.pop(name, None)
    environ.pop("__PYVENV_LAUNCHER__", None)
    return environ
