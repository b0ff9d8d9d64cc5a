"""Where this account keeps its runs unless told otherwise. Runs on the remote machine: Python >= 3.6."""

import json
import os
import sys

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.paths import native_path, text_of, wire_path


def storage_roots(home: str) -> "tuple[str | None, str | None, str]":
    """-> `$RUNICORN_DIR`, the root runicorn is configured with, and the one that counts. All are absolute."""
    runicorn_dir = _usable_root(os.environ.get("RUNICORN_DIR"), home)
    configured_root = _usable_root(_configured_root(home), home)
    return (
        runicorn_dir,
        configured_root,
        runicorn_dir or configured_root or os.path.join(home, "runicorn_data"),
    )


def _usable_root(value: object, home: str) -> "str | None":
    """A configured storage root, absolute; None if there is none or none that we could talk about."""
    text = wire_path(value) if isinstance(value, str) else None
    if not text:
        return None
    try:
        return native_path(text, home)
    except Failure:
        return None


def _configured_root(home: str) -> object:
    """`user_root_dir` of the runicorn of this account, or None."""
    if sys.platform == "darwin":
        directory = os.path.join(home, "Library", "Application Support", "Runicorn")
    else:
        directory = os.path.join(
            os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "runicorn"
        )
    try:
        config = json.loads(text_of(os.path.join(directory, "config.json"), 1024 * 1024))
    except (ValueError, RecursionError):
        return None
    return config.get("user_root_dir") if isinstance(config, dict) else None
