"""Stand-ins for what tests do not start for real."""

from __future__ import annotations

import subprocess
from pathlib import Path

from runicorn_remote.clock import Clock
from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.ssh.host import ScriptResult
from runicorn_remote.ssh.target import Target


class AdvancingClock(Clock):
    """The real one, ahead by `ahead` seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class StandingClock(Clock):
    """It moves only when `ahead` is changed."""

    ahead = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.ahead


class LocalHost:
    """This machine as a host: scripts run for real, as sshd starts them, in a HOME of the test's own."""

    def __init__(
        self,
        home: Path,
        *,
        path: str = "/usr/bin:/bin",
        login_shell: tuple[str, ...] = ("/bin/sh",),
        **environ: str,
    ) -> None:
        self.target = Target("localhost", 22, "me")
        self.scripts = 0
        self._login_shell = login_shell
        self._environ = {"HOME": str(home), "PATH": path, **environ}

    def run_script(self, script: str, *, timeout: float, command: str | None = None) -> ScriptResult:
        self.scripts += 1
        try:
            done = subprocess.run(
                [*self._login_shell, "-c", command or "sh -s"],
                input=b"" if command else script.encode(),
                capture_output=True,
                env=self._environ,
                cwd=self._environ["HOME"],
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise RemoteCommandFailed("The script took too long", code="COMMAND_TIMEOUT") from error
        return ScriptResult(done.returncode, done.stdout, done.stderr)
