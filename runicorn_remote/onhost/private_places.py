"""Where our own virtual environments are. Runs on the remote machine: Python >= 3.6, standard library.

    ${XDG_DATA_HOME:-~/.local/share}/runicorn-remote/venvs/<cp311>-<linux>-<x86_64>/

Named after the Python and the machine, as home directories are shared between machines that differ.
"""

import os
import sys

from runicorn_remote.onhost.paths import children_of
from runicorn_remote.onhost.prefixes import interpreter_of

# What it is called among the environments.
PRIVATE_NAME = "runicorn-remote"


def data_root(home: str) -> str:
    data_home = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(data_home):
        data_home = os.path.join(home, ".local", "share")
    return os.path.join(os.path.normpath(data_home), "runicorn-remote")


def private_prefixes(home: str) -> "list[str]":
    """Those of this machine that can be run, the newest Python first."""
    ending = "-" + machine_name()
    found = [path for path in children_of(os.path.join(data_root(home), "venvs")) if path.endswith(ending)]
    return sorted((path for path in found if interpreter_of(path)), key=_series_number, reverse=True)


def machine_name() -> str:
    return sys.platform + "-" + os.uname().machine


def _series_number(path: str) -> int:
    digits = os.path.basename(path).split("-")[0][2:]
    return int(digits) if digits.isdigit() else 0
