"""Question: which directories look like Runicorn's storage?

Arguments `{"scan_root": path or None (the home), "max_depth": int, "environment": name or None,
"seconds": float}`.
The answer: `{"scan_root", "max_depth", "candidates": [{"path", "run_count", "has_archive", "has_index",
"score"}], "truncated": bool}`, the best first. After `seconds` it answers what was found.

An environment is given only to be told (`ENVIRONMENT_NOT_FOUND`) that it is unknown.
"""

import itertools
import os
import stat
import time
from typing import Any

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.environments import find_one
from runicorn_remote.onhost.paths import home_directory, native_path, wire_path

MAX_CANDIDATES = 12
_STORAGE_NAMES = (".runicorn", "runicorn_data")
# Runs are directories with one of these, at most so many levels below `runs`; so many are counted.
_RUN_FILES = ("meta.json", "status.json")
_RUN_DEPTH = 4
_RUN_LIMIT = 200
_ENTRY_LIMIT = 20000
# Never storage, often large. Hidden directories are left out as a whole.
_PRUNED_NAMES = ("__pycache__", "node_modules", "site-packages", "micromamba", "lost+found")
_VENV_NAMES = ["bin", "include", "lib", "lib64", "share"]
_PRUNED_PATHS = ("/proc", "/sys", "/dev", "/run", "/boot", "/usr", "/snap")


def main(arguments: "dict[str, Any]") -> "dict[str, Any]":
    home = home_directory()
    if arguments.get("environment") and not find_one(arguments["environment"], home):
        raise Failure("ENVIRONMENT_NOT_FOUND", "No such environment")
    root = native_path(arguments.get("scan_root") or home, home)
    _check_directory(root)
    scan = StorageScan(root, time.monotonic() + float(arguments.get("seconds") or 20.0))
    scan.search(int(arguments["max_depth"]))
    candidates = sorted(scan.candidates, key=lambda candidate: (-candidate["score"], candidate["path"]))
    return {
        "scan_root": wire_path(root),
        "max_depth": arguments["max_depth"],
        "candidates": candidates[:MAX_CANDIDATES],
        "truncated": scan.truncated or len(candidates) > MAX_CANDIDATES,
    }


def _check_directory(path: str) -> None:
    """Raises the `Failure` for what cannot be scanned."""
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise Failure("NOT_A_DIRECTORY", "Not a directory")
        os.scandir(path).close()
    except PermissionError as error:
        raise Failure("PATH_FORBIDDEN", "Permission denied") from error
    except OSError as error:
        raise Failure("PATH_NOT_FOUND", "No such directory") from error


class StorageScan:
    """A search, the nearest directories first, that comes to each directory once and ends in time."""

    def __init__(self, root: str, deadline: float) -> None:
        self.candidates: list[dict[str, Any]] = []
        self.truncated = False
        self._root = root
        self._deadline = deadline
        self._seen: set[tuple[int, int]] = set()
        # A link to above the root would lead to the homes of everybody.
        self._above = {os.path.realpath(root)}
        while os.path.dirname(root) != root:
            root = os.path.dirname(root)
            self._above.add(os.path.realpath(root))

    def search(self, max_depth: int) -> None:
        level = [self._root]
        for depth in range(max_depth + 1):
            below: list[str] = []
            links: list[str] = []
            for directory in level:
                if self._is_late():
                    return
                directories = self._look_at(directory)
                for child, is_link in directories if depth < max_depth else ():
                    (links if is_link else below).append(child)
            # Links last, so that what has a path of its own is shown by it.
            level = below + links

    def _look_at(self, directory: str) -> "list[tuple[str, bool]]":
        """Record the directory if it is a storage root; `(path, is a link)` of those to look at next."""
        if not self._is_new(directory):
            return []
        names, directories = self._entries(directory)
        if "conda-meta" in directories:
            return []
        storage = self._storage_at(directory, directories)
        if storage and wire_path(directory):
            self.candidates.append(storage)
        # What lies in a storage root's own directories is its data.
        own = ["runs", "archive", "index"] if storage and storage["run_count"] else []
        # Some people's project is in the directory they made the virtual environment of.
        own += _VENV_NAMES if "pyvenv.cfg" in names else []
        return [
            (os.path.join(directory, name), is_link)
            for name, is_link in sorted(directories.items())
            if name not in own and self._is_worthwhile(directory, name, is_link)
        ]

    def _is_new(self, directory: str) -> bool:
        """Whether this is the first way that leads here; remembers it."""
        try:
            status = os.stat(directory)
        except OSError:
            return False
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _is_worthwhile(self, directory: str, name: str, is_link: bool) -> bool:
        if name in _PRUNED_NAMES or (name.startswith(".") and name not in _STORAGE_NAMES):
            return False
        path = os.path.join(directory, name)
        real = os.path.realpath(path) if is_link else path
        return real not in _PRUNED_PATHS and real not in self._above

    def _entries(self, directory: str) -> "tuple[set[str], dict[str, bool]]":
        """The names of files, and the directories as `{name: is a link}`; links are followed."""
        names: set[str] = set()
        directories: dict[str, bool] = {}
        try:
            with os.scandir(directory) as entries:
                for entry in itertools.islice(entries, _ENTRY_LIMIT):
                    try:
                        if entry.is_dir():
                            directories[entry.name] = entry.is_symlink()
                        else:
                            names.add(entry.name)
                    except OSError:
                        continue
                self.truncated = self.truncated or next(entries, None) is not None
        except OSError:
            pass
        return names, directories

    def _storage_at(self, directory: str, directories: "dict[str, bool]") -> "dict[str, Any] | None":
        """The candidate that `directory` is, or None."""
        run_count = self._count_runs(os.path.join(directory, "runs")) if "runs" in directories else 0
        has_archive = "archive" in directories
        has_index = "index" in directories
        has_name = os.path.basename(directory) in _STORAGE_NAMES
        if not (run_count or has_archive or has_index or has_name):
            return None
        score = 100 + min(run_count, 20) if run_count else 0
        score += (25 if has_archive else 0) + (15 if has_index else 0) + (10 if has_name else 0)
        return {
            "path": wire_path(directory),
            "run_count": run_count,
            "has_archive": has_archive,
            "has_index": has_index,
            "score": score,
        }

    def _count_runs(self, directory: str) -> int:
        """Runs in and below `directory`, which may be a link; links below it are not followed."""
        count = 0
        level = [directory]
        for _ in range(_RUN_DEPTH + 1):
            below = []
            for path in level:
                if count >= _RUN_LIMIT or self._is_late():
                    return count
                names, directories = self._entries(path)
                if any(name in names for name in _RUN_FILES):
                    count += 1
                else:
                    below += [
                        os.path.join(path, name) for name, is_link in directories.items() if not is_link
                    ]
            level = below
        return count

    def _is_late(self) -> bool:
        if time.monotonic() > self._deadline:
            self.truncated = True
            return True
        return False
