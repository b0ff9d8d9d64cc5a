"""Paths and small files. Runs on the remote machine: Python >= 3.6, standard library."""

import itertools
import os

from runicorn_remote.onhost.common import Failure

# A directory with more entries than this is not one of those we look into.
LISTING_LIMIT = 2000


def native_path(text: str, home: str) -> str:
    """A client's path as this machine's functions want it: absolute, `~` expanded, relative to `home`.

    Raises `Failure` INVALID_PATH for what no path can be.
    """
    try:
        # Under Python 3.6 in the C locale, file names are not UTF-8 unless we see to it.
        path = os.fsdecode(text.encode("utf-8"))
    except UnicodeEncodeError:
        path = "\0"
    if not path or "\0" in path:
        raise Failure("INVALID_PATH", "The path cannot be used")
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    elif path.startswith("~"):
        path = os.path.expanduser(path)
    return os.path.abspath(os.path.join(home, path))


def wire_path(path: str) -> "str | None":
    """A path as text for the answer; None if it is not printable UTF-8 and so could not be given back."""
    try:
        text = os.fsencode(path).decode("utf-8")
    except UnicodeError:
        return None
    return text if text.isprintable() else None


def home_directory() -> str:
    """The user's home, absolute."""
    return os.path.abspath(os.path.expanduser("~"))


def names_in(directory: str, limit: int = LISTING_LIMIT) -> "list[str]":
    """The sorted names in a directory, at most `limit`; none if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, limit))
    except OSError:
        return []


def children_of(directory: str) -> "list[str]":
    """The paths in a directory, sorted; none if it cannot be read."""
    return [os.path.join(directory, name) for name in names_in(directory)]


def text_of(path: str, limit: int = 65536) -> str:
    """The beginning of a text file; empty if it cannot be read. Never waits for a pipe."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""
