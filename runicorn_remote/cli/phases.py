"""How far the start of a viewer is, shown while the request for it is under way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from runicorn_remote.cli.output import is_terminal, say

if TYPE_CHECKING:
    from runicorn_remote.client import RunicornRemoteClient
    from runicorn_remote.client.shapes import ViewerSession

# In the order they happen.
PHASES = {
    "connecting": "logging in",
    "preparing": "finding the environment",
    "launching": "starting the viewer",
    "waiting": "waiting until it answers",
    "ready": "it answers",
}
_ORDER = list(PHASES)
# Seconds; the second is the deadline of one request, and so of the end of the thread.
_POLL_INTERVAL = 0.1
_POLL_TIMEOUT = 2.0


class Display(Protocol):
    """`reached` is called with growing phases, by one thread at a time; `failed` at most once, at the end."""

    def reached(self, phase: str) -> None: ...

    def failed(self) -> None: ...

    def close(self) -> None: ...


class PhaseWatch:
    """Shows the phases of the session that appears while the block runs.

    The block ends with the phase `ready` unless it raises. What is asked meanwhile is asked by a thread
    of its own (`phase-watch`) with a client of its own; that it fails changes nothing but the display.
    """

    def __init__(
        self,
        new_client: Callable[[float], RunicornRemoteClient],
        is_ours: Callable[[ViewerSession], bool],
        new_display: Callable[[], Display],
    ) -> None:
        self._client = new_client(_POLL_TIMEOUT)
        self._is_ours = is_ours
        self._new_display = new_display
        self._display: Display
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="phase-watch", daemon=True)
        self._before: set[str] = set()

    def __enter__(self) -> PhaseWatch:
        try:
            self._before = {session["sessionId"] for session in self._client.list_viewer_sessions()}
        except BaseException:
            self._client.close()
            raise
        self._display = self._new_display()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        try:
            self._thread.join(2 * _POLL_TIMEOUT)
            if error is None:
                self._display.reached("ready")
            else:
                self._display.failed()
        finally:
            self._display.close()
            self._client.close()

    def _watch(self) -> None:
        import requests

        session_id = None
        while not self._ended.wait(_POLL_INTERVAL):
            try:
                sessions = self._client.list_viewer_sessions()
            except requests.RequestException:
                continue
            session_id = session_id or self._found(sessions)
            phases = [session["phase"] for session in sessions if session["sessionId"] == session_id]
            # Ready is what the answer to the start says.
            if phases and phases[0] in _ORDER[:-1] and not self._ended.is_set():
                self._display.reached(phases[0])

    def _found(self, sessions: list[ViewerSession]) -> str | None:
        new = (session for session in sessions if session["sessionId"] not in self._before)
        return next((session["sessionId"] for session in new if self._is_ours(session)), None)


def display_for(as_json: bool) -> Display:
    """To stderr: drawn in a terminal, lines elsewhere, nothing for a program that reads JSON."""
    if as_json:
        return _Silent()
    return _Drawn() if is_terminal(sys.stderr) else _Lines()


class _Silent:
    def reached(self, phase: str) -> None: ...

    def failed(self) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """One line a phase; none is left out, however short it was."""

    def __init__(self) -> None:
        self._next = 0

    def reached(self, phase: str) -> None:
        for name in _ORDER[self._next : _ORDER.index(phase) + 1]:
            say(f"{name}: {PHASES[name]}")
        self._next = max(self._next, _ORDER.index(phase) + 1)

    def failed(self) -> None: ...

    def close(self) -> None: ...


class _Drawn:
    """What is done with a mark before it, and what is under way with a spinner."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.status import Status

        self._console = Console(stderr=True, highlight=False)
        self._current = 0
        self._status = Status(self._line(), console=self._console)
        self._status.start()

    def reached(self, phase: str) -> None:
        while self._current < _ORDER.index(phase):
            self._mark("[green]✓[/green]")
            self._current += 1
        if self._current == len(_ORDER) - 1:
            self._mark("[green]✓[/green]")
        else:
            self._status.update(self._line())

    def failed(self) -> None:
        self._mark("[red]✗[/red]")

    def close(self) -> None:
        self._status.stop()

    def _mark(self, mark: str) -> None:
        self._console.print(f"{mark} {self._line()}")

    def _line(self) -> str:
        name = _ORDER[self._current]
        return f"{name:<11}[dim]{PHASES[name]}[/dim]"
