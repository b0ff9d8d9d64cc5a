"""End viewers their server forgot, remove what dead ones left. On the remote machine: Python >= 3.6.

Several servers may use one account (a laptop and a jump box): a viewer is only ended by the server
whose mark its record has. The files of viewers that are long dead belong to nobody and go.
"""

import os
import time

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.private_files import (
    is_private_dir,
    private_dirs,
    read_record,
    remove_private_dir,
)
from runicorn_remote.onhost.processes import end_group, is_ours

_STALE_AFTER = 7 * 24 * 3600.0
_TIMEOUT = 5.0


def main(arguments: dict) -> dict:
    """`server`: the mark of the server that asks, `known`: the ids of its sessions.

    Answers {"ended": [session id, ...], "removed": number of directories}.
    """
    server, known = arguments["server"], set(arguments["known"])
    if not isinstance(server, str) or not server:
        raise Failure("INVALID_VALUE", "server: empty")
    ended, removed = [], 0
    for session_id, directory in private_dirs():
        if session_id in known or not is_private_dir(directory, session_id):
            continue
        record = read_record(directory)
        pid, started = record.get("pid"), record.get("start_time")
        alive = pid is not None and is_ours(pid, started)
        if record.get("server") == server:
            if pid is not None and alive:
                if not end_group(pid, started, _TIMEOUT)[0]:
                    continue
                ended.append(session_id)
        elif alive or time.time() - os.stat(directory).st_mtime < _STALE_AFTER:
            # Another server's; or a start that is just under way and has no record yet.
            continue
        removed += remove_private_dir(directory, session_id)
    return {"ended": ended, "removed": removed}
