"""`runicorn-remote demo`: builds the stage, goes through the journey, clears everything away."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from runicorn_remote.demo import leftovers, sample_storage
from runicorn_remote.demo.journey import Journey
from runicorn_remote.demo.report import DemoFailed, Report
from runicorn_remote.demo.sandbox import MARKER, Sandbox
from runicorn_remote.demo.server_process import Api, ServerProcess
from runicorn_remote.demo.ssh_host import EmbeddedHost

# SIGHUP: the terminal was closed.
# Windows has no SIGHUP.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """One of `_SIGNALS` came. Not an `Exception`, so that nothing on the way takes it for an error."""


def run(port: int | None, check: bool) -> int:
    """Run the demo in the main thread until a signal, or with `check` until it is through.

    -> exit status: 0 all went well and, with `check`, nothing stayed behind; 1 otherwise.
    """
    threads_before = set(threading.enumerate())
    with _signals_as_interruption() as finish:
        stage = Stage(port)
        problems: list[str] = []
        try:
            problems += stage.play(check)
        except Interrupted:
            problems += ["interrupted"] if check else []
        finally:
            finish()
            problems += stage.clear(threads_before)
    for problem in problems:
        print(f"runicorn-remote demo: {problem}", file=sys.stderr)
    if not problems and check:
        print("\nEverything worked, and nothing stayed behind.")
    return 1 if problems else 0


class Stage:
    """All that a demo has running. Nothing runs before `play` and nothing after `clear`."""

    def __init__(self, port: int | None) -> None:
        self._port = port
        self._report = Report()
        self._sandbox: Sandbox | None = None
        self._host: EmbeddedHost | None = None
        self._server: ServerProcess | None = None
        self._journey: Journey | None = None
        # What has to be gone at the end.
        self._pids: list[int] = []
        self._ports: list[int] = []

    def play(self, check: bool) -> list[str]:
        """-> what went wrong: at most one sentence. Without `check` it goes on until `Interrupted`."""
        try:
            runs = self._build()
            self._go(runs, check)
        except DemoFailed as error:
            return [f"{error}{self._server_log()}"]
        return []

    def _build(self) -> int:
        """-> the number of sample runs."""
        sandbox = self._sandbox = Sandbox()
        self._report.title("Setting the stage")
        with self._report.step("sample storage") as step:
            try:
                runs = sample_storage.create(sandbox.storage, sandbox.local_environment)
            except RuntimeError as error:
                raise DemoFailed(str(error)) from error
            step.detail = f"{runs} runs"
        with self._report.step("embedded SSH host") as step:
            self._host = EmbeddedHost(sandbox.remote_home, environment=sandbox.remote_environment)
            self._host.start()
            self._ports.append(self._host.port)
            step.detail = f"ssh -p {self._host.port} {self._host.username}@{self._host.host}"
        with self._report.step("server") as step:
            self._server = ServerProcess(
                self._port, sandbox.state_dir, sandbox.server_log, sandbox.local_environment
            )
            self._server.start()
            self._ports.append(self._server.port)
            step.detail = self._server.url
        return runs

    def _go(self, runs: int, check: bool) -> None:
        assert self._sandbox is not None
        assert self._host is not None
        assert self._server is not None
        self._report.title("The journey")
        journey = Journey(Api(self._server.url), self._host, self._sandbox.environment_name, self._report)
        self._journey = journey
        journey.there()
        assert journey.session is not None
        self._pids.append(journey.session["remotePid"])
        self._ports += [journey.session["localPort"], journey.session["remotePort"]]
        if check:
            journey.look(runs)
            return
        self._report.title(f"The viewer: {journey.session['url']}\nCtrl-C ends the demo.")
        until_signal = threading.Event()
        while self._server.is_running():
            until_signal.wait(1.0)
        raise DemoFailed("the server ended by itself")

    def clear(self, threads_before: set[threading.Thread]) -> list[str]:
        """End everything, in order, whatever of it is there. -> what went wrong or stayed behind."""
        self._report.title("Clearing away")
        problems = self._end_journey() + self._end_server() + self._end_host()
        if self._sandbox is None:
            return problems
        marker = f"{MARKER}={self._sandbox.directory}"
        with self._report.step("what is left") as step:
            left = [
                *leftovers.processes(self._pids, marker),
                *leftovers.ports(self._ports),
                *leftovers.threads(threads_before),
                *(f"file {name}" for name in self._sandbox.leftovers()),
            ]
            step.detail = ", ".join(left) or "no process, port, thread or file"
        leftovers.kill_marked(marker)
        with self._report.step("temporary files"):
            removed = self._sandbox.remove()
        if not removed:
            left.append(str(self._sandbox.directory))
        return [*problems, *(f"left behind: {one}" for one in left)]

    def _end_journey(self) -> list[str]:
        if self._journey is None or self._server is None or not self._server.is_running():
            return []
        return _problem_of(self._journey.back)

    def _end_server(self) -> list[str]:
        if self._server is None:
            return []
        was_running = self._server.is_running()
        with self._report.step("server") as step:
            status = self._server.stop()
            step.detail = f"exit status {status}"
        # One that had ended has been told about; one that was still starting may end in any way.
        failed = was_running and self._server.answered and status != 0
        return [f"the server ended with exit status {status}{self._server_log()}"] if failed else []

    def _end_host(self) -> list[str]:
        if self._host is None:
            return []
        with self._report.step("embedded SSH host") as step:
            found = _problem_of(self._host.stop)
            step.detail = "stopped"
        return found

    def _server_log(self) -> str:
        tail = self._server.log_tail() if self._server else ""
        return f"\nThe end of the server's log:\n{tail}" if tail else ""


def _problem_of(function: Callable[[], None]) -> list[str]:
    try:
        function()
    except (DemoFailed, TimeoutError) as error:
        return [str(error)]
    return []


@contextlib.contextmanager
def _signals_as_interruption() -> Iterator[Callable[[], None]]:
    """Make signals raise `Interrupted`, once; after that, or after a call of what this gives, ignore them."""

    def ignore(number: int, frame: FrameType | None) -> None:
        """A function rather than SIG_IGN, which child processes would inherit."""

    def finish() -> None:
        for number in _SIGNALS:
            signal.signal(number, ignore)

    def interrupt(number: int, frame: FrameType | None) -> None:
        finish()
        raise Interrupted

    before: dict[signal.Signals, Any] = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield finish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
