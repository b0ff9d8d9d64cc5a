"""A host, a network, a server and its viewers, all real, and what can be seen of them from outside.

with Stage(directory, STRAIGHT, viewers=2) as stage:
    stage.host.kill_sessions()
    seconds = stage.seconds_until_all_answer()
    stage.expect_same_viewers()
assert stage.left_behind() == []
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.e2e.user import RemoteAccount, User, is_refused
from tests.faults.namespace import NetworkNamespace
from tests.faults.small_disk import SmallDisk
from tests.hosts.faulty_sshd import FaultySshServer
from tests.hosts.server import ServerProcess, fetch
from tests.hosts.weak_network import WeakNetwork

# Nothing here should ever take so long.
LONGEST = 60.0
_STARTS_AT_ONCE = 4
_LOOK_AGAIN_AFTER = 0.05
_MOVED_BY = "TEST_CLOCK_MOVED_BY"

Session = dict[str, Any]


class NotRecovered(Exception):
    """What should have come back did not, or is not what it was."""


@dataclass(frozen=True)
class Setting:
    """What a fault needs around it. `network`: `straight`, `relay` or `namespace`."""

    network: str = "straight"
    small_disk: bool = False
    movable_clock: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        extras = [name for name in ("small_disk", "movable_clock") if getattr(self, name)]
        return "-".join([self.network, *extras, *self.settings.values()])


class Stage:
    """All files are in `directory`, which must exist. `settings` are the server's, by their names."""

    def __init__(
        self,
        directory: Path,
        setting: Setting,
        *,
        viewers: int,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._setting = setting
        self._count = viewers
        self._settings = {"MAX_RESTARTS": "100", **(settings or {}), **setting.settings}
        self._stack = contextlib.ExitStack()
        self._ports: set[int] = set()
        self._moved_by = directory / "clock-moved-by"
        self.host: FaultySshServer
        self.network: WeakNetwork | NetworkNamespace
        self.disk: SmallDisk
        self.server: ServerProcess
        self.user: User
        self.account: RemoteAccount
        self.before: dict[str, Session] = {}

    def __enter__(self) -> Stage:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- the server

    def restart_server(self) -> None:
        """After its end: the next one on the same state directory."""
        self.server.start()

    def move_clock(self, seconds: float) -> None:
        """The server's wall clock; from a server with `movable_clock` only."""
        self._moved_by.write_text(str(float(self._moved_by.read_text() or 0) + seconds))

    def remembered(self) -> list[dict[str, Any]]:
        """The sessions on disk."""
        content = json.loads((self.server.state_dir / "sessions.json").read_text())
        sessions: list[dict[str, Any]] = content["sessions"]
        return sessions

    # --- viewers

    def add_viewer(self) -> Session:
        session = self.user.start_viewer()
        self.before[session["sessionId"]] = session
        self._ports.add(session["localPort"])
        return session

    def stop_viewer(self, session: Session) -> None:
        self.user.stop_viewer(session)
        del self.before[session["sessionId"]]
        if not is_refused(session["localPort"]):
            raise NotRecovered(f"port {session['localPort']} is still open after the stop")
        # From now on it may be anybody's.
        self._ports.discard(session["localPort"])

    def viewer(self, number: int) -> Session:
        """One of them; they take turns."""
        return list(self.before.values())[number % len(self.before)]

    def shown(self) -> dict[str, Session]:
        """What the API says, by session id."""
        return {session["sessionId"]: session for session in self.user.viewers()}

    # --- what is waited for

    def seconds_until_all_answer(self) -> float:
        """Until each of the URLs that users have open has answered once."""
        return self.seconds_until_answer(*self.before.values())

    def seconds_until_answer(self, *sessions: Session) -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(len(sessions), thread_name_prefix="user") as users:
            moments = list(users.map(lambda session: _when_it_answers(session["localPort"]), sessions))
        if None in moments:
            raise NotRecovered(f"no answer within {LONGEST:g} s: {self.shown()}")
        return max(moment for moment in moments if moment is not None) - began

    def seconds_until(self, condition: Callable[[dict[str, Session]], object], what: str) -> float:
        """Until the sessions, as the API shows them, are so."""
        began = time.monotonic()
        pause = threading.Event()
        while not condition(shown := self.shown()):
            if time.monotonic() - began > LONGEST:
                raise NotRecovered(f"not within {LONGEST:g} s: {what}: {shown}")
            pause.wait(_LOOK_AGAIN_AFTER)
        return time.monotonic() - began

    def seconds_until_no_link(self) -> float:
        """Until the loss is shown for all viewers."""
        return self.seconds_until(
            lambda shown: all(not session["isActive"] for session in shown.values()), "the loss is noticed"
        )

    def expect_same_viewers(self, *, but: Session | None = None) -> None:
        """All run, at the same local and remote ports, and are the same processes; `but`: except this one."""
        self.seconds_until(
            lambda shown: {session["status"] for session in shown.values()} == {"running"}, "all run"
        )
        shown = self.shown()
        if shown.keys() != self.before.keys():
            raise NotRecovered(f"sessions {sorted(shown)} instead of {sorted(self.before)}")
        for session_id, known in self.before.items():
            for name in ("localPort", "url", "remotePort", "remotePid"):
                if shown[session_id][name] != known[name] and not (
                    but is not None and session_id == but["sessionId"] and name.startswith("remote")
                ):
                    raise NotRecovered(f"{name} was {known[name]}: {shown[session_id]}")
        if self.account.viewer_processes() != {session["remotePid"] for session in shown.values()}:
            raise NotRecovered(f"processes {self.account.viewer_processes()}: {shown}")
        self.before = shown

    # --- the end

    def end_all(self) -> None:
        """As users do: stop one viewer, then the server."""
        for session in list(self.before.values()):
            if self._settings.get("ON_SHUTDOWN") == "keep" or session is self.viewer(0):
                self.stop_viewer(session)
        status = self.server.stop()
        if status != 0:
            raise NotRecovered(f"the server ended with {status}")

    def left_behind(self) -> list[str]:
        """What is still there after `end_all`. Empty is right."""
        left = [f"process {pid}" for pid in self.account.viewer_processes()]
        left += [f"server process {pid}" for pid in self.server.pids()]
        left += [f"directory {path}" for path in self.account.private_directories()]
        left += [f"port {port}" for port in sorted(self._ports) if not is_refused(port)]
        left += [f"file {path}" for path in self.server.state_dir.glob(".*.tmp")]
        left += [f"remembered {entry['session_id']}" for entry in self.remembered()]
        if "Traceback" in self.server.output():
            left.append(f"a traceback in {self._directory / 'server.log'}")
        return left

    # --- the beginning

    def _set_up(self) -> None:
        enter = self._stack.enter_context
        here = self._directory / "host"
        here.mkdir()
        if self._setting.network == "namespace":
            self.network = namespace = enter(NetworkNamespace())
            # Inside it nobody else has the port.
            self.host = FaultySshServer(here, host=namespace.host, port=2222, prefix=namespace.prefix)
        else:
            self.host = FaultySshServer(here)
        enter(self.host)
        self._stack.callback(self._end_viewers)
        address = (self.host.host, self.host.port)
        if self._setting.network == "relay":
            self.network = relay = enter(WeakNetwork(*address))
            address = (relay.host, relay.port)
        self.server = self._make_server()
        enter(self.server)
        self.account = RemoteAccount(self.host.home)
        credentials = {
            "host": address[0],
            "port": address[1],
            "username": self.host.username,
            "private_key_path": str(self.host.client_key),
        }
        self.user = User(self.server, credentials)
        self.user.accept_host_key()
        with ThreadPoolExecutor(_STARTS_AT_ONCE, thread_name_prefix="start") as executor:
            started = list(executor.map(lambda _: self.user.start_viewer(), range(self._count)))
        self.before = {session["sessionId"]: session for session in started}
        self._ports = {session["localPort"] for session in started}

    def _make_server(self) -> ServerProcess:
        command: tuple[str, ...] = ()
        if self._setting.small_disk:
            (self._directory / "state").mkdir(mode=0o700)
            self.disk = self._stack.enter_context(SmallDisk(self._directory / "state"))
        if self._setting.movable_clock:
            self._moved_by.write_text("0")
            module = "tests.faults.server_with_movable_clock"
            state = str(self._directory / "state")
            command = (sys.executable, "-m", module, "serve", "--port", "0", "--state-dir", state)
        settings = {f"RUNICORN_REMOTE_{name}": value for name, value in self._settings.items()}
        return ServerProcess(
            self._directory, environment={**settings, _MOVED_BY: str(self._moved_by)}, command=command
        )

    def _end_viewers(self) -> None:
        for pid in self.account.viewer_processes() if hasattr(self, "account") else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def own_home(directory: Path) -> Iterator[None]:
    """For what runs outside pytest: nothing of the user who runs it, for this process and its children."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("RUNICORN", "XDG_")) or name == "SSH_AUTH_SOCK":
            del os.environ[name]
    os.environ["HOME"] = str(directory)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _when_it_answers(port: int) -> float | None:
    """The moment; None: not in time."""
    deadline = time.monotonic() + LONGEST
    pause = threading.Event()
    while time.monotonic() < deadline:
        try:
            # Longer than the server holds a connection while the link is down.
            answer = fetch(f"http://127.0.0.1:{port}/api/health", timeout=8.0)
            if answer.status_code == 200 and answer.json()["status"] == "ok":
                return time.monotonic()
        except (requests.RequestException, ValueError, KeyError):
            pass
        pause.wait(_LOOK_AGAIN_AFTER)
    return None
