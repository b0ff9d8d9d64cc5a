"""Find viewers a server may have forgotten, remove what long dead ones left. Python >= 3.6, on the host.

Several servers may use one account (a laptop and a jump box): only viewers whose record has the mark
of the asking server are told of. It ends those that no session of it knows with `stop`: it alone can
tell, as one may just have been started. The files of viewers that are long dead belong to nobody.
"""

import os
import time

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.private_files import (
    is_private_dir,
    private_dirs,
    read_record,
    remove_private_dir,
    to_text,
)
from runicorn_remote.onhost.processes import is_ours

_STALE_AFTER = 7 * 24 * 3600.0


def main(arguments: dict) -> dict:
    """`server`: the mark of the server that asks.

    Answers {"viewers": [{"session_id", "pid", "start_time", "port", "directory"}], "removed": number}.
    """
    server = arguments["server"]
    if not isinstance(server, str) or not server:
        raise Failure("INVALID_VALUE", "server: empty")
    viewers, removed = [], 0
    for session_id, directory in private_dirs():
        if not is_private_dir(directory, session_id):
            continue
        record = read_record(directory)
        if record.get("server") == server:
            known = {name: record.get(name) for name in ("pid", "start_time", "port")}
            viewers.append(dict(known, session_id=session_id, directory=to_text(directory)))
        elif not _is_alive(record) and time.time() - os.stat(directory).st_mtime > _STALE_AFTER:
            removed += remove_private_dir(directory, session_id)
    return {"viewers": viewers, "removed": removed}


def _is_alive(record: dict) -> bool:
    pid = record.get("pid")
    return pid is not None and is_ours(pid, record.get("start_time"))
