"""The command line and the environment of a viewer. Runs on the remote machine: Python >= 3.6."""

import os
import re
from typing import Any

from runicorn_remote.onhost.listeners import LOOPBACK
from runicorn_remote.onhost.private_files import LOG_NAME, to_path


def viewer_command(viewer: "dict[str, Any]", port: int) -> "list[bytes]":
    """`viewer`: `python`, `root` (texts that `to_path` takes), `runicorn` (its version or None),
    `idle_timeout` (seconds or None)."""
    command = [to_path(viewer["python"]), "-m", "runicorn", "viewer", "--storage", to_path(viewer["root"])]
    command += ["--host", LOOPBACK, "--port", str(port), "--remote-mode", "--log-level", "INFO"]
    if viewer["idle_timeout"] and _has_idle_timeout(viewer["runicorn"]):
        command += ["--idle-timeout", str(int(viewer["idle_timeout"]))]
    return [os.fsencode(word) for word in command]


def viewer_environ(directory: str, session_id: str) -> "dict[str, str]":
    """All that a viewer writes goes into `directory`."""
    environ = dict(os.environ)
    environ["PYTHONUNBUFFERED"] = "1"
    environ["RUNICORN_REMOTE_SESSION"] = session_id
    # Left alone, runicorn logs to /tmp/runicorn-viewer, which belongs to the first user of the machine
    # who started one; it fails for the next. It also removes old neighbours of its log directory.
    environ["RUNICORN_REMOTE_SESSION_ID"] = session_id
    environ["RUNICORN_REMOTE_LOG_DIR"] = os.path.join(directory, "logs", "session")
    environ["RUNICORN_LOG_FILE"] = os.path.join(directory, LOG_NAME)
    # On macOS this would make a virtual environment's Python believe that it is ours.
    environ.pop("__PYVENV_LAUNCHER__", None)
    return environ


def _has_idle_timeout(version: "str | None") -> bool:
    """Runicorn has the option since 0.7.0, and an option it does not know ends it."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return numbers is not None and (int(numbers.group(1)), int(numbers.group(2))) >= (0, 7)
