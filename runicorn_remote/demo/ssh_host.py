"""An SSH host inside this process, for the demo and for tests.

    with EmbeddedHost(home) as host:
        connect(host.host, host.port, host.username, host.password)

It listens on 127.0.0.1 only. Commands are real local processes with `home` as HOME and working
directory, SFTP shows the real file system with relative paths in `home`, and forwarding reaches
127.0.0.1 only. What a command leaves running in a session of its own (`setsid`) outlives its channel
and this host, as it does with OpenSSH.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import asyncssh

from runicorn_remote.demo.ssh_account import Account, AccountServer
from runicorn_remote.demo.ssh_commands import RunningCommands

START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0
# A host that a test froze and forgot thaws after so many seconds.
_LONGEST_FREEZE = 120.0
_CALL_TIMEOUT = 10.0

_Result = TypeVar("_Result")


class EmbeddedHost:
    """One SSH host with one account. All methods may be called from any thread but its own.

    `home` must exist and be absolute. `password` is random unless given. `authorized_keys` are lines
    `type base64 comment` let in beside the generated `client_key_text`. `environment` is added to what
    commands see. `max_sessions` is how many exec and SFTP channels a connection may have open, as
    sshd's MaxSessions.
    """

    host = "127.0.0.1"
    username = "demo"

    def __init__(
        self,
        home: Path,
        *,
        password: str | None = None,
        authorized_keys: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        max_sessions: int = 10,
    ) -> None:
        self.home = home
        self.port = 0
        self.password = password or secrets.token_urlsafe(12)
        client_key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key_text: str = client_key.export_private_key("openssh").decode("ascii")
        self.max_sessions = max_sessions
        self.environment = {**_login_environment(home, self.username), **(environment or {})}
        self._authorized = {client_key.public_data} | {
            asyncssh.import_public_key(line).public_data for line in authorized_keys
        }
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._thawed = threading.Event()
        self._failure: BaseException | None = None
        # Only the host's own thread touches these.
        self._stopping: asyncio.Event
        self._account: Account

    def __enter__(self) -> EmbeddedHost:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what clients need to know

    @property
    def host_keys(self) -> dict[str, str]:
        """`{"ssh-ed25519": "ssh-ed25519 AAAA…"}`."""
        line = " ".join(self._host_key.export_public_key("openssh").decode("ascii").split()[:2])
        return {line.split()[0]: line}

    @property
    def fingerprint(self) -> str:
        """The host key's, `SHA256:…`."""
        return str(self._host_key.get_fingerprint("sha256"))

    def known_hosts_lines(self) -> list[str]:
        """Our host keys as lines of a known_hosts file."""
        return [f"[{self.host}]:{self.port} {key}" for key in self.host_keys.values()]

    # --- running it

    def start(self) -> None:
        """Listen. After `stop()`: again, on the same port. Raises `OSError` if that is taken."""
        if self._thread is not None:
            raise RuntimeError("the host runs already")
        self._failure = None
        self._listening.clear()
        self._thread = threading.Thread(target=self._run, name="embedded-ssh-host", daemon=True)
        self._thread.start()
        if self._listening.wait(START_TIMEOUT) and self._failure is None:
            return
        failure = self._failure or TimeoutError("the embedded SSH host did not start in time")
        self.stop()
        raise failure

    def stop(self) -> None:
        """End the listener, all connections and the commands in their foreground.

        Raises `TimeoutError` if the host's thread is still there after `STOP_TIMEOUT` seconds.
        """
        if self._thread is None:
            return
        self.thaw()
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_TIMEOUT)
        if self._thread.is_alive():
            raise TimeoutError("the embedded SSH host did not stop in time")
        self._thread = self._loop = None

    def renew_host_key(self) -> None:
        """Show another host key from now on; before `start()`, or after `stop()`."""
        if self._thread is not None:
            raise RuntimeError("stop the host first")
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")

    # --- trouble on demand

    def kill_connections(self) -> None:
        """Cut every connection off; the host goes on listening."""
        self._call(lambda: self._account.abort_connections())

    def freeze(self) -> None:
        """Answer nothing any more: connections stay open, new ones are accepted by the system only."""
        self._thawed.clear()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._thawed.wait, _LONGEST_FREEZE)

    def thaw(self) -> None:
        self._thawed.set()

    def connection_count(self) -> int:
        return self._call(lambda: len(self._account.connections))

    def _call(self, function: Callable[[], _Result]) -> _Result:
        """Have `function` run in the host's thread; its result."""

        async def call() -> _Result:
            return function()

        if self._loop is None:
            raise RuntimeError("the host does not run")
        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(_CALL_TIMEOUT)

    # --- the host's thread

    def make_server(self, account: Account) -> AccountServer:
        """Who decides for one connection; for hosts that log in otherwise."""
        return AccountServer(account)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except (OSError, asyncssh.Error) as error:
            self._failure = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._account = Account(
            self.username,
            self.password,
            self._authorized,
            self.home,
            self.max_sessions,
            RunningCommands(self.home, self.environment),
        )
        self._loop = asyncio.get_running_loop()
        with socket.create_server((self.host, self.port)) as listener:
            self.port = listener.getsockname()[1]
            acceptor = await asyncssh.listen(
                sock=listener,
                server_factory=lambda: self.make_server(self._account),
                server_host_keys=[self._host_key],
                encoding=None,
                line_editor=False,
                allow_pty=False,
                agent_forwarding=False,
                x11_forwarding=False,
            )
            self._listening.set()
            try:
                await self._stopping.wait()
            finally:
                # No more of them; those just accepted come up first, as asyncio loses them in `close()`.
                self._loop.remove_reader(listener)
                await _rounds_of_the_loop()
                acceptor.close()
                self._account.abort_connections()
                await self._account.commands.end_all()
                await _rounds_of_the_loop()
                await acceptor.wait_closed()


async def _rounds_of_the_loop() -> None:
    """Let happen what is due: a socket is opened and closed some rounds after what caused it."""
    for _ in range(10):
        await asyncio.sleep(0)


def _login_environment(home: Path, username: str) -> dict[str, str]:
    """What a login shows to commands: nothing of this process but where its programs are."""
    return {
        "HOME": str(home),
        "USER": username,
        "LOGNAME": username,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath),
    }
