"""Start a viewer and watch it until it listens. Runs on the remote machine: Python >= 3.6, standard library.

Events, in order:
    {"event": "prepared", "python", "environment", "runicorn", "remote_root", "port", "requested_port"}
    {"event": "launched", "pid", "start_time", "port", "directory"}
                                    again, with another port, if another process was faster at taking it
and one of these as the last:
    {"event": "listening", "port", "pid", "seconds", "node"}    the viewer goes on without us
    {"event": "exited", "status", "log_tail"}               it died; a negative status is a signal's number
    {"error", "message", ...}                               anything else
Only after `listening` a process or a file is left. Empty lines in between test whether somebody still
reads; when nobody does, the start is taken back.
"""

import os
import shlex
import stat
import subprocess

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.environments import find_one
from runicorn_remote.onhost.listeners import bindable, free_port
from runicorn_remote.onhost.node_launch import NodeLaunch
from runicorn_remote.onhost.paths import home_directory, native_path
from runicorn_remote.onhost.private_files import to_path, to_text
from runicorn_remote.onhost.processes import checked_session_id
from runicorn_remote.onhost.viewer_start import ReaderGone, ViewerStart


def main(arguments: dict) -> None:
    """`session_id`, `remote_root`, `environment` (a name or None), `python` (the interpreter that name
    meant before, or None), `port` (or None for any), `ports_tried`, `timeout` and `idle_timeout` in seconds,
    `server`: the mark of the server that asks. `template` and `relay`, or neither: as for `NodeLaunch`.
    """
    session_id = checked_session_id(arguments["session_id"])
    root = storage_root(arguments["remote_root"])
    environment = environment_with_runicorn(arguments)
    requested = arguments.get("port")
    port = requested if requested and bindable(requested) else free_port()
    template = arguments.get("template")
    node_launch = NodeLaunch(template, arguments["relay"]) if template else None
    start = ViewerStart(
        session_id,
        root,
        environment,
        port,
        arguments.get("idle_timeout"),
        arguments.get("server"),
        node_launch,
    )
    try:
        start.tell(
            event="prepared",
            python=environment["python"],
            environment=environment["name"],
            runicorn=environment["runicorn"],
            remote_root=to_text(root),
            port=port,
            requested_port=requested,
        )
        start.run(float(arguments.get("timeout") or 60), int(arguments.get("ports_tried") or 5))
    except ReaderGone:
        # What is still buffered would fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        start.close()


def storage_root(text: str) -> str:
    """The absolute storage root. If it is missing, the directory above must be there: the viewer makes it."""
    root = native_path(text, home_directory())
    shown = to_text(root)
    try:
        mode = os.stat(root).st_mode
    except FileNotFoundError:
        return _new_storage_root(root, shown)
    except PermissionError:
        raise Failure("PATH_FORBIDDEN", f"Permission denied: {shown}") from None
    except NotADirectoryError:
        raise Failure("NOT_A_DIRECTORY", f"Part of the path is not a directory: {shown}") from None
    except OSError as error:
        raise Failure("INVALID_PATH", f"The path cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise Failure("NOT_A_DIRECTORY", f"Not a directory: {shown}")
    # Runicorn makes `runs` where it is missing; a storage that has it may be somebody else's to read.
    readable = os.access(root, os.R_OK | os.X_OK)
    if not readable or not (os.path.isdir(os.path.join(root, "runs")) or os.access(root, os.W_OK)):
        raise Failure("PATH_FORBIDDEN", f"Permission denied: {shown}")
    return root


def _new_storage_root(root: str, shown: str) -> str:
    parent = os.path.dirname(root)
    if os.path.islink(root) or not os.path.isdir(parent):
        raise Failure("PATH_NOT_FOUND", f"No such directory: {shown}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise Failure("PATH_FORBIDDEN", f"No such directory, and it may not be created: {shown}")
    return root


def environment_with_runicorn(arguments: dict) -> dict:
    """The environment the user means, never another. Raises Failure: there is none, or it has no runicorn."""
    name, python, root = arguments.get("environment"), arguments.get("python"), arguments["remote_root"]
    home = home_directory()
    environment = find_one(name, home, root) if name or not python else None
    if environment is None and python:
        environment = find_one(python, home, root)
    if environment is None:
        asked = name or python or "system"
        raise Failure(
            "ENVIRONMENT_NOT_FOUND",
            f"Environment '{asked}' not found. Please check the environment name.",
        )
    python = environment["python"]
    if not environment["runicorn"] and not _can_import_runicorn(to_path(python)):
        raise Failure(
            "RUNICORN_NOT_INSTALLED",
            f"Runicorn is not installed in the environment '{environment['name']}' ({python}). "
            f"Install it there: {shlex.quote(python)} -m pip install runicorn",
        )
    return environment  # type: ignore[no-any-return, unused-ignore]


def _can_import_runicorn(python: str) -> bool:
    """Asks the interpreter: a development install or PYTHONPATH may leave no file where one would look."""
    question = "import importlib.util, sys; sys.exit(importlib.util.find_spec('runicorn') is None)"
    try:
        done = subprocess.run(
            [os.fsencode(python), "-c", question],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
