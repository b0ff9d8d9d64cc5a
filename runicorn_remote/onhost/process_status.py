"""How the viewers of this host are. Runs on the remote machine: Python >= 3.6, standard library."""

import os

from runicorn_remote.onhost.private_files import LOG_NAME, is_private_dir, log_tail, to_path
from runicorn_remote.onhost.processes import checked_session_id, is_ours, state

# What runicorn (0.7.0 and later; earlier ones never end themselves) logs just before it does.
_IDLE_EXIT = "Shutting down remote-mode viewer"


def main(arguments: dict) -> dict:
    """`processes`: [{"session_id", "pid", "start_time", "directory"}], answered in the same order as
    [{"session_id", "alive", "state": "running|stopped|zombie|gone", "idle_exit", "log_tail": [...]}].
    """
    return {"processes": [_status_of(process) for process in arguments["processes"]]}


def _status_of(process: dict) -> dict:
    session_id = checked_session_id(process["session_id"])
    pid, started = process["pid"], process["start_time"]
    # A zombie still has its start time; a process with another one has nothing to do with us.
    alive = is_ours(pid, started)
    seen = state(pid)
    directory = to_path(process.get("directory") or "")
    tail = log_tail(os.path.join(directory, LOG_NAME)) if is_private_dir(directory, session_id) else []
    return {
        "session_id": session_id,
        "alive": alive,
        "state": seen if alive or seen == "zombie" else "gone",
        # Others may have had something to say after it: a launch command whose output was closed, say.
        "idle_exit": not alive and any(_IDLE_EXIT in line for line in tail),
        "log_tail": tail,
    }
