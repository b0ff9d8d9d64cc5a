"""The files of one demo: two homes, one for the remote account and one for the server."""

from __future__ import annotations

import os
import shutil
import site
import sys
import tempfile
from pathlib import Path

# Every process the demo starts, and what those start, has this in its environment. The prefix of our
# settings would make it one of them.
MARKER = "RUNICORN_DEMO"


class Sandbox:
    """A temporary directory of mode 0700. Must be removed with `remove`.

    `remote_home` is the account on the embedded host: `~/runicorn_data` for the runs, and this
    interpreter's environment under the name `environment_name`. `state_dir` and `server_log` are the
    server's.
    """

    def __init__(self) -> None:
        # Resolved: on macOS the temporary directory lies behind a link.
        self.directory = Path(tempfile.mkdtemp(prefix="runicorn-remote-demo-")).resolve()
        self.remote_home = self.directory / "remote"
        self.storage = self.remote_home / "runicorn_data"
        self.server_home = self.directory / "local"
        self.state_dir = self.server_home / "state"
        self.server_log = self.directory / "server.log"
        for directory in (self.remote_home, self.storage, self.server_home):
            directory.mkdir(mode=0o700)
        self.environment_name = self._offer_interpreter()

    def _offer_interpreter(self) -> str:
        """Put this interpreter where the remote account has its environments; the name it has there."""
        is_environment = (Path(sys.prefix) / "pyvenv.cfg").exists() or (
            Path(sys.prefix) / "conda-meta"
        ).exists()
        if not is_environment:
            return "system"  # found in PATH
        places = self.remote_home / ".virtualenvs"
        places.mkdir(mode=0o700)
        (places / "demo").symlink_to(sys.prefix, target_is_directory=True)
        return "demo"

    @property
    def remote_environment(self) -> dict[str, str]:
        """What commands on the embedded host see, beside the usual."""
        environment = {**_user_site(), MARKER: str(self.directory)}
        if self.environment_name == "system":
            # This interpreter first, so that it is the `python3` of the remote account.
            environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), _path()])
        return environment

    @property
    def local_environment(self) -> dict[str, str]:
        """For our own child processes: nothing of the user's settings, agent or configuration."""
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "TMPDIR", "LANG") if name in os.environ}
        return {
            **kept,
            **_user_site(),
            "HOME": str(self.server_home),
            "PATH": _path(),
            MARKER: str(self.directory),
        }

    def leftovers(self) -> list[str]:
        """Files, relative to `directory`, that should be gone: a viewer's, and half-written ones.

        Logs, and what the server keeps in its state directory on purpose, may stay.
        """
        of_viewers = (self.remote_home / ".local").rglob("*")
        half_written = self.state_dir.rglob("*.tmp")
        return [
            str(path.relative_to(self.directory))
            for path in (*of_viewers, *half_written)
            if not path.is_dir() and path.suffix != ".log"
        ]

    def remove(self) -> bool:
        """Whether everything could be removed."""
        shutil.rmtree(self.directory, ignore_errors=True)
        return not self.directory.exists()


def _path() -> str:
    return os.environ.get("PATH", os.defpath)


def _user_site() -> dict[str, str]:
    """For `pip install --user`: with another HOME, its packages would be looked for there."""
    return {"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {}
