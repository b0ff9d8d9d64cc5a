"""The end of a viewer's log. Runs on the remote machine: Python >= 3.6, standard library."""

import os

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.private_files import (
    LOG_NAME,
    find_private_dir,
    is_private_dir,
    log_tail,
    to_path,
)
from runicorn_remote.onhost.processes import checked_session_id

# Bytes that are looked at for each line that is asked for; one is shown with at most 300 characters.
_BYTES_A_LINE = 512


def main(arguments: dict) -> dict:
    """`session_id`, `directory` (where the launch put it, or None), `lines`: how many, at most.

    Answers {"lines": [...]}, oldest first, without empty ones and without control characters.
    """
    session_id = checked_session_id(arguments["session_id"])
    directory = to_path(arguments.get("directory") or "")
    if not is_private_dir(directory, session_id):
        directory = find_private_dir(session_id) or ""
    if not directory:
        raise Failure("LOG_NOT_FOUND", "The viewer has no log on its host (any more)")
    lines = int(arguments["lines"])
    return {"lines": log_tail(os.path.join(directory, LOG_NAME), lines, max(8192, lines * _BYTES_A_LINE))}
