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
# What the server legitimately keeps, and what programs write on their way.
_KEPT = ("known_hosts", "known_hosts.lock")


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
        """Files, relative to `directory`, that the server and the viewer should have removed; no logs."""
        places = (self.state_dir, self.remote_home / ".local")
        files = [path for place in places for path in place.rglob("*") if not path.is_dir()]
        return [
            str(path.relative_to(self.directory))
            for path in files
            if path.suffix != ".log" and path.name not in _KEPT
        ]

    def remove(self) -> None:
        """May raise `OSError`."""
        shutil.rmtree(self.directory)


def _path() -> str:
    return os.environ.get("PATH", os.defpath)


def _user_site() -> dict[str, str]:
    """For `pip install --user`: with another HOME, its packages would be looked for there."""
    return {"PYTHONUSERBASE": site.getuserbase()} if site.ENABLE_USER_SITE else {}
