"""A real sshd to which bad things happen, while what was started through it goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.hosts.sshd import STOP_TIMEOUT, SshServer, _descendants, _kill, _pids_with_environment


class FaultySshServer(SshServer):
    """`SshServer`, and the ways it fails. Other than `kill_connections`, these leave viewers alone.

    `host` is where it listens, on a free port unless given; `prefix` goes before its command line,
    such as `ip netns exec NAME`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: Sequence[str] = (),
        **more: Any,
    ) -> None:
        self.host = host  # type: ignore[misc]
        super().__init__(directory, **more)
        self.port = port
        if prefix:
            self._sshd = self._wrapped(self._sshd, prefix)

    def kill_sessions(self) -> None:
        """End all connections without a word to their other ends; the server goes on listening."""
        _kill(self._sshd_pids() - {self._listener_pid()}, signal.SIGKILL)

    def freeze(self) -> None:
        """Nothing answers any more, neither old connections nor new ones; all sockets stay open."""
        _kill(self._sshd_pids(), signal.SIGSTOP)

    def thaw(self) -> None:
        _kill(self._sshd_pids(), signal.SIGCONT)

    def halt(self) -> None:
        """End the listener and all connections. `start()` again, on the same port."""
        assert self._process is not None
        _kill(self._sshd_pids(), signal.SIGKILL)
        self._process.wait(STOP_TIMEOUT)
        self._process = None

    def stop(self) -> None:
        if self._process is None:
            _kill(_pids_with_environment(f"TEST_SSHD_TOKEN={self._token}"), signal.SIGKILL)
        super().stop()

    def logins(self) -> int:
        """How many have succeeded so far."""
        return self.log().count("Accepted publickey for ")

    def attempts(self) -> int:
        """How many TCP connections have come so far, whatever became of them. For LogLevel VERBOSE."""
        return self.log().count("Connection from ")

    def change_host_key(self) -> None:
        """While halted: another key, which nobody has confirmed."""
        for path in self.directory.glob("host_key_*"):
            path.unlink()
        self.host_keys.clear()
        public = self._generate_key(self.directory / "host_key_ed25519", "ed25519")
        self.host_keys[public.split()[0]] = public

    def shut_out_everybody(self) -> str:
        """No key is good any more. Returns what `let_in` wants to have it as it was."""
        path = self.directory / "authorized_keys"
        before = path.read_text()
        path.write_text("")
        return before

    def let_in(self, authorized_keys: str) -> None:
        (self.directory / "authorized_keys").write_text(authorized_keys)

    def _listener_pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _sshd_pids(self) -> set[int]:
        """The listener and its connections' processes; not what these have started."""
        listener = self._listener_pid()
        return {listener} | {pid for pid in _descendants(listener) if _program(pid).startswith("sshd")}

    def _wrapped(self, program: str, prefix: Sequence[str]) -> str:
        """sshd starts itself again by its path, so that has to be the real one within."""
        script = self.directory / "wrapped-sshd"
        script.write_text(f'#!/bin/sh\nexec {" ".join(prefix)} {program} "$@"\n')
        script.chmod(0o755)
        return str(script)


def _program(pid: int) -> str:
    answer = subprocess.run(
        ["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    )
    return os.path.basename(answer.stdout.strip())


def kill_quietly(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
