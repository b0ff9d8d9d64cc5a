"""The Python environments of a host, and where its runs are: one round trip a question, at most."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from runicorn_remote import onhost
from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    EnvironmentNotFound,
    InvalidValue,
    NotADirectory,
    PathForbidden,
    RemoteCommandFailed,
    RemoteError,
    RemotePathNotFound,
)
from runicorn_remote.services.survey import (
    Environment,
    StorageCandidates,
    Survey,
    read_storage_candidates,
    read_survey,
)

# A survey answers what a client asks right after the list: the versions, then one configuration.
SURVEY_TTL = 30.0
MAX_DEPTH = 8
# Where a host names no free port: the viewer's own default; a start tries others if it is taken.
_DEFAULT_PORT = 23300
_SCAN_SECONDS = 20.0
_MAX_SHOWN = 500


class ScriptResult(Protocol):
    @property
    def exit_status(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


class ScriptHost(Protocol):
    """What is needed of a live connection (`runicorn_remote.ssh.host.RemoteHost` has it)."""

    def run_script(self, script: str, *, timeout: float, command: str | None = None) -> ScriptResult: ...


@dataclass(frozen=True)
class EnvironmentConfig:
    """What a client needs to start a viewer with one environment."""

    environment: Environment
    default_storage_root: str
    storage_root_exists: bool
    suggested_remote_port: int
    home_directory: str


class _Known:
    """A survey with its age, and those of its free ports that nobody was told yet."""

    def __init__(self, survey: Survey, asked_for: str | None, asked_at: float) -> None:
        self.survey = survey
        self.asked_at = asked_at
        self.ports = list(survey.free_ports)
        self._asked_for = asked_for

    def environment(self, name: str) -> Environment | None:
        """By name, by the path of the interpreter, or the very one the question was about."""
        for environment in self.survey.environments:
            if environment.name == name:
                return environment
        for environment in self.survey.environments:
            if environment.path == name:
                return environment
        return self.survey.asked if name == self._asked_for else None


class Environments:
    """Asks hosts and remembers the answers for a short time. May be used from any thread.

    Every method may raise `SSHError`, and `RemoteCommandFailed` if the host gives no usable answer.
    """

    def __init__(self, command_timeout: float, clock: Clock) -> None:
        self._timeout = command_timeout
        self._clock = clock
        # Protects both the dict and the ports in it; never held while a host is asked. An entry goes
        # with its connection.
        self._lock = threading.Lock()
        self._known: WeakKeyDictionary[ScriptHost, _Known] = WeakKeyDictionary()

    def list(self, host: ScriptHost) -> tuple[Environment, ...]:
        """The environments, the default first. Always asks the host."""
        return self._ask_survey(host, None).survey.environments

    def env_configs(self, host: ScriptHost) -> dict[str, Environment]:
        """The environments by name."""
        known = self._remembered(host) or self._ask_survey(host, None)
        return {environment.name: environment for environment in known.survey.environments}

    def config(self, host: ScriptHost, name: str) -> EnvironmentConfig:
        """One environment, by its name or absolute path, with the storage root and a free port.

        No port is suggested twice from one survey. Raises `EnvironmentNotFound`.
        """
        known = self._remembered(host)
        environment = known.environment(name) if known else None
        port = self._take_port(known) if known and environment else None
        if known is None or environment is None or port is None:
            known = self._ask_survey(host, name)
            environment = known.environment(name)
            port = self._take_port(known)
        if environment is None:
            raise _unknown_environment(name)
        survey = known.survey
        return EnvironmentConfig(
            environment=environment,
            default_storage_root=survey.storage_root,
            storage_root_exists=survey.storage_root_exists,
            suggested_remote_port=port or _DEFAULT_PORT,
            home_directory=survey.home,
        )

    def storage_candidates(
        self, host: ScriptHost, name: str, scan_root: str | None, max_depth: int
    ) -> StorageCandidates:
        """Directories below `scan_root` (the home if None) that look like storage.

        `max_depth` is clamped to 1-8. A large tree gives what was found in some seconds, `truncated`.
        Raises `EnvironmentNotFound`, `RemotePathNotFound`, `NotADirectory`, `PathForbidden`, `InvalidValue`.
        """
        max_depth = min(max(max_depth, 1), MAX_DEPTH)
        known = self._remembered(host)
        is_known = name == "system" or (known is not None and known.environment(name) is not None)
        arguments = {
            "scan_root": scan_root,
            "max_depth": max_depth,
            "environment": None if is_known else name,
            "seconds": min(_SCAN_SECONDS, self._timeout / 2),
        }
        try:
            answer = self._ask(host, "storage_candidates", arguments)
        except RemoteCommandFailed as error:
            raise _typed(error, name, scan_root or "~") from error
        return read_storage_candidates(answer, max_depth)

    def forget(self, host: ScriptHost) -> None:
        """Ask anew the next time: something was installed there."""
        with self._lock:
            self._known.pop(host, None)

    def _remembered(self, host: ScriptHost) -> _Known | None:
        with self._lock:
            known = self._known.get(host)
        return known if known and self._clock.monotonic() - known.asked_at < SURVEY_TTL else None

    def _ask_survey(self, host: ScriptHost, name: str | None) -> _Known:
        asked_at = self._clock.monotonic()
        answer = self._ask(host, "survey", {"remote_root": None, "environment": name})
        known = _Known(read_survey(answer), name, asked_at)
        with self._lock:
            before = self._known.get(host)
            # Of two that were on their way at once, the later question has the fresher answer.
            if before is None or before.asked_at <= asked_at:
                self._known[host] = known
        return known

    def _take_port(self, known: _Known) -> int | None:
        with self._lock:
            return known.ports.pop(0) if known.ports else None

    def _ask(self, host: ScriptHost, question: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        program = onhost.build(question, arguments)
        result = host.run_script(program.script, timeout=self._timeout, command=program.command)
        return program.answer(result.stdout, result.stderr, result.exit_status)


def _typed(error: RemoteCommandFailed, name: str, path: str) -> RemoteError:
    """The failure a program reported, as the error a client can act on."""
    if error.code == "ENVIRONMENT_NOT_FOUND":
        return _unknown_environment(name)
    if error.code == "PATH_NOT_FOUND":
        return RemotePathNotFound(f"Scan root does not exist: {_shown(path)}")
    if error.code == "NOT_A_DIRECTORY":
        return NotADirectory(f"Scan root is not a directory: {_shown(path)}")
    if error.code == "PATH_FORBIDDEN":
        return PathForbidden(f"Scan root cannot be read: {_shown(path)}")
    if error.code == "INVALID_PATH":
        return InvalidValue(f"Scan root cannot be used: {_shown(path)}")
    return error


def _unknown_environment(name: str) -> EnvironmentNotFound:
    return EnvironmentNotFound(
        f"Environment '{_shown(name)}' not found. Please check the environment name.",
        hint="GET /api/remote/conda-envs lists the environments of the host.",
    )


def _shown(text: str) -> str:
    """A string from outside, short and printable, to show to a client."""
    text = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
    return text if text.isprintable() else ascii(text)
