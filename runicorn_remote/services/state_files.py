"""The files of a state directory, and whether anybody else could have put them there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import check_directory, check_file
from runicorn_remote.services.secret_keys import KEY_FILE

STATE_FILES = (
    "known_hosts",
    "known_hosts.lock",
    "connections.json",
    "connections.json.lock",
    KEY_FILE,
    f"{KEY_FILE}.next",
    "sessions.json",
    "sessions.json.owner",
    "ui_preferences.json",
    "ui_preferences.json.lock",
)


@dataclass(frozen=True)
class Finding:
    """Something about one path: `refused` is used by nobody; else its mode lets others in (`mode`)."""

    path: Path
    message: str
    refused: bool


def inspect_state(directory: Path) -> list[Finding]:
    """What is wrong with a state directory. Changes nothing; what does not exist is made when needed."""
    return list(_findings(directory))


def refuse_unsafe_state(directory: Path) -> None:
    """Raise `StateError` for a directory or a file of ours that somebody else could have put in place."""
    for finding in _findings(directory):
        if finding.refused:
            raise StateError(finding.message)


def _findings(directory: Path) -> Iterator[Finding]:
    yield from _about(directory, is_directory=True)
    # What cannot be entered is said of the directory.
    if os.access(directory, os.X_OK) and not directory.is_symlink():
        for name in STATE_FILES:
            yield from _about(directory / name, is_directory=False)


def _about(path: Path, *, is_directory: bool) -> Iterator[Finding]:
    try:
        mode = check_directory(path) if is_directory else check_file(path)
    except StateError as error:
        yield Finding(path, str(error), refused=True)
        return
    if os.name != "nt" and mode is not None and mode & 0o077:
        proper = "700" if is_directory else "600"
        yield Finding(path, f"{path} has mode {mode:o}, open to others: chmod {proper} {path}", refused=False)
