"""End a viewer, remove its private directory. Runs on the remote machine: Python >= 3.6, standard library."""

from runicorn_remote.onhost.private_files import (
    find_private_dir,
    is_private_dir,
    read_record,
    remove_private_dir,
    to_path,
)
from runicorn_remote.onhost.processes import checked_session_id, end_group, is_ours


def main(arguments: dict) -> dict:
    """`session_id`, `pid`, `start_time`, `directory`, `timeout` (seconds from SIGTERM to SIGKILL, or None).

    Without a pid or a directory (a start that was cancelled early) the session's record is looked for.
    Answers {"stopped", "was_running", "killed"}. `stopped` is False if even SIGKILL did not end it.
    A pid that meanwhile belongs to another process is not signalled; `was_running` is False then.
    """
    session_id = checked_session_id(arguments["session_id"])
    timeout = arguments.get("timeout")
    pid, started = arguments.get("pid"), arguments.get("start_time")
    directory = to_path(arguments.get("directory") or "")
    if not is_private_dir(directory, session_id):
        directory = find_private_dir(session_id) or ""
    if pid is None and directory:
        record = read_record(directory)
        pid, started = record.get("pid"), record.get("start_time")
    answer = {"stopped": True, "was_running": False, "killed": False}
    if isinstance(pid, int) and is_ours(pid, started):
        answer["was_running"] = True
        answer["stopped"], answer["killed"] = end_group(pid, started, 10.0 if timeout is None else timeout)
    if answer["stopped"] and directory:
        remove_private_dir(directory, session_id)
    return answer
