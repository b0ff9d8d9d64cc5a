"""Remove packages that will not be installed. Runs on the remote machine: Python >= 3.6, standard library."""

import shutil

from runicorn_remote.onhost.paths import home_directory
from runicorn_remote.onhost.private_files import to_path
from runicorn_remote.onhost.private_venv import is_wheels_directory


def main(arguments: dict) -> dict:
    """`directory`: that of a `wheels_wanted` of `install`. Answers {"removed"}."""
    directory = to_path(arguments["directory"])
    ours = is_wheels_directory(directory, home_directory())
    if ours:
        shutil.rmtree(directory, ignore_errors=True)
    return {"removed": ours}
