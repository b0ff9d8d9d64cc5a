"""Starting and ending the viewer process on a host: the questions `launch`, `stop`, `process_status`.

Everything a host answers is checked before it is believed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runicorn_remote import onhost
from runicorn_remote.errors import (
    EnvironmentNotFound,
    InvalidValue,
    RemoteCommandFailed,
    RemoteError,
    RunicornNotInstalled,
    StartCancelled,
    ViewerExited,
    ViewerStartFailed,
)
from runicorn_remote.services.launch_commands import LaunchCommands
from runicorn_remote.services.session_fields import RemoteProcess
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.running_script import RunningScript

# How soon a cancelled start is noticed while the host says nothing.
_CANCEL_POLL = 0.2
# For the way there and back, on top of what the script itself may take.
_GRACE = 10.0
_UNUSABLE_ROOT = ("PATH_NOT_FOUND", "NOT_A_DIRECTORY", "PATH_FORBIDDEN", "INVALID_PATH", "INVALID_VALUE")


@dataclass(frozen=True)
class ProcessState:
    """What the host says of a viewer's process. `log_tail` is there when it is gone, oldest first.

    `process`: the one that was asked about; the session may have another by now.
    """

    alive: bool
    idle_exit: bool
    log_tail: tuple[str, ...]
    process: RemoteProcess | None = None


class Launcher:
    """Stateless; may be called from any thread."""

    def __init__(
        self,
        launch_commands: LaunchCommands,
        *,
        start_timeout: float,
        stop_timeout: float,
        probe_timeout: float,
    ) -> None:
        self._launch_commands = launch_commands
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._probe_timeout = probe_timeout

    def launch(self, host: RemoteHost, session: ViewerSession, request: dict[str, Any]) -> None:
        """Start the viewer and return when it listens. The session learns of each step.

        Raises `EnvironmentNotFound`, `InvalidValue` (the storage root), `RunicornNotInstalled`,
        `LaunchArgumentsUnusable`, `ViewerExited` with its last log lines, `StartCancelled`, `LinkLost`.
        """
        asked = {"session_id": session.id, "timeout": self._start_timeout, **request}
        template = self._launch_commands.command(session.target, asked.pop("launch_args", None))
        if template is not None:
            asked.update(template=template, relay=onhost.relay_program())
        program = onhost.build("launch", asked)
        session.remains = True
        timeout = self._start_timeout + _GRACE
        with host.open_script(program.script, timeout=timeout, command=program.command) as running:
            for event in _events(program, running, session):
                kind = event.get("event")
                if kind == "prepared":
                    session.prepared(
                        remote_root=_text(event, "remote_root"),
                        environment=_text(event, "environment"),
                        runicorn_version=_text(event, "runicorn") if event.get("runicorn") else None,
                    )
                elif kind == "launched":
                    session.launched(_process(event))
                elif kind == "listening":
                    session.listening(_text(event, "node", 253) if event.get("node") else None)
                    return
                elif kind == "exited":
                    session.remains = False  # the script takes back what it did not finish
                    raise ViewerExited("the viewer ended while starting", log_tail=_lines(event))
                elif "error" in event:
                    session.remains = False
                    raise _failure(event)
        raise ViewerStartFailed("the host stopped answering while the viewer was starting")

    def stop(self, host: RemoteHost, session_id: str, process: RemoteProcess | None) -> bool:
        """End the process, if it is still ours, and remove its files. Returns whether it was running.

        Without a process, the host looks up what it recorded for the session.
        """
        answer = self._ask(host, "stop", {**_named(session_id, process), "timeout": self._stop_timeout})
        return answer.get("was_running") is True

    def process_states(
        self, host: RemoteHost, processes: Mapping[str, RemoteProcess | None]
    ) -> dict[str, ProcessState]:
        """All in one question. A session without a process counts as dead."""
        asked = {session_id: process for session_id, process in processes.items() if process is not None}
        names = [_named(session_id, process) for session_id, process in asked.items()]
        answer = self._ask(host, "process_status", {"processes": names})
        try:
            found = {
                session_id: _state(answer["processes"][place], process)
                for place, (session_id, process) in enumerate(asked.items())
            }
        except (KeyError, IndexError, TypeError) as error:
            raise onhost.bad_answer() from error
        return {session_id: found.get(session_id, ProcessState(False, False, ())) for session_id in processes}

    def viewers_of(self, host: RemoteHost, server_id: str) -> dict[str, RemoteProcess]:
        """The viewers on a host that have this server's mark, dead ones included, by session id."""
        entries = self._ask(host, "sweep", {"server": server_id}).get("viewers")
        if not isinstance(entries, list):
            raise onhost.bad_answer()
        found = {}
        for entry in entries:
            # A record that makes no sense hides no other.
            with contextlib.suppress(RemoteCommandFailed, AttributeError):
                found[_text(entry, "session_id", 32)] = _process(entry)
        return found

    def process_state(self, host: RemoteHost, session_id: str, process: RemoteProcess) -> ProcessState:
        return self.process_states(host, {session_id: process})[session_id]

    def _ask(self, host: RemoteHost, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
        program = onhost.build(question, arguments)
        timeout = self._probe_timeout if question == "process_status" else self._stop_timeout + _GRACE
        result = host.run_script(program.script, timeout=timeout, command=program.command)
        return program.answer(result.stdout, result.stderr, result.exit_status)


def _named(session_id: str, process: RemoteProcess | None) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "pid": process.pid if process else None,
        "start_time": process.start_time if process else None,
        "directory": process.directory if process else None,
    }


def _events(
    program: onhost.Program, running: RunningScript, session: ViewerSession
) -> Iterator[dict[str, Any]]:
    """The program's events as they come; a cancelled session ends the wait."""
    seen = bytearray()
    while True:
        if session.cancelled.is_set():
            raise StartCancelled("it was stopped while starting")
        try:
            line = running.readline(timeout=_CANCEL_POLL)
        except TimeoutError:
            continue
        if line is None:
            break
        event = program.event(line)
        if event is not None:
            yield event
        elif len(seen) < 4096:
            seen += line + b"\n"
    raise onhost.no_answer(bytes(seen), running.stderr(), running.exit_status())


def _failure(event: dict[str, Any]) -> RemoteError:
    """The error for `{"error": code, "message": …}`."""
    failure = onhost.Program.failure(event)
    code, message = failure.code, failure.reason
    if code == "ENVIRONMENT_NOT_FOUND":
        return EnvironmentNotFound(message)
    if code == "RUNICORN_NOT_INSTALLED":
        return RunicornNotInstalled(message)
    if code in _UNUSABLE_ROOT:
        return InvalidValue(f"{ViewerStartFailed.prefix}{message}", code=code)
    return ViewerStartFailed(message, code=code, log_tail=_lines(event))


def _process(event: dict[str, Any]) -> RemoteProcess:
    pid, port = event.get("pid"), event.get("port")
    if not (isinstance(pid, int) and isinstance(port, int) and pid > 1 and 0 < port < 65536):
        raise onhost.bad_answer()
    return RemoteProcess(pid, _text(event, "start_time"), port, _text(event, "directory"))


def _state(entry: dict[str, Any], process: RemoteProcess) -> ProcessState:
    return ProcessState(entry["alive"] is True, entry.get("idle_exit") is True, _lines(entry), process)


def _text(event: dict[str, Any], name: str, longest: int = 4096) -> str:
    value = event.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise onhost.bad_answer()
    return "".join(character if character.isprintable() else "�" for character in value)


def _lines(event: dict[str, Any]) -> tuple[str, ...]:
    lines = event.get("log_tail")
    if not isinstance(lines, list):
        return ()
    return tuple(_text({"line": str(line)[:500]}, "line") for line in lines[-40:])
