"""What an installation keeps in our directory of the account's data. Python >= 3.6, on the host.

${XDG_DATA_HOME:-~/.local/share}/runicorn-remote/
    venvs/<cp311>-<linux>-<x86_64>/     our own environment, see `private_places`
    locks/<name>.lock                   one installation at a time
    wheels-<random>/                    packages on their way
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from typing import Iterator  # noqa: UP035

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.paths import children_of
from runicorn_remote.onhost.private_files import problem_with, to_text
from runicorn_remote.onhost.private_places import data_root, machine_name

_WHEELS_PREFIX = "wheels-"
# Longer than any installation: they are of one whose connection broke.
_WHEELS_STALE_AFTER = 3600.0


def private_prefix(home: str, series: "tuple[int, int]") -> str:
    """Where the one of a Python of that series lies, or will lie. Makes the directory above."""
    venvs = private_directory(home, "venvs")
    return os.path.join(venvs, f"cp{series[0]}{series[1]}-{machine_name()}")


def private_directory(home: str, name: str = "") -> str:
    """A directory of ours, mode 0700, made if it is missing. Raises Failure if it is not safe."""
    root = data_root(home)
    os.makedirs(os.path.dirname(root), mode=0o700, exist_ok=True)
    wanted = os.path.join(root, name) if name else root
    for directory in (root, wanted):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            problem = problem_with(directory)
            if problem:
                raise Failure("PRIVATE_DIRECTORY_UNSAFE", f"{to_text(directory)}: {problem}") from None
            os.chmod(directory, 0o700)
    return wanted


@contextlib.contextmanager
def only_one(home: str, name: str) -> "Iterator[None]":
    """Raises Failure INSTALL_IN_PROGRESS if another process of this account is in such a block."""
    path = os.path.join(private_directory(home, "locks"), name + ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A file system without locks cannot keep two apart.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise Failure(
                    "INSTALL_IN_PROGRESS", "Another installation into this environment is under way"
                ) from None
        yield
    finally:
        os.close(descriptor)


def new_wheels_directory(home: str) -> str:
    """An empty private directory for packages; those that were forgotten go."""
    root = private_directory(home)
    for path in children_of(root):
        if is_wheels_directory(path, home) and time.time() - os.lstat(path).st_mtime > _WHEELS_STALE_AFTER:
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.mkdtemp(prefix=_WHEELS_PREFIX, dir=root)


def is_wheels_directory(path: str, home: str) -> bool:
    root, name = os.path.split(path)
    return root == data_root(home) and name.startswith(_WHEELS_PREFIX) and problem_with(path) is None


def wheels_in(directory: str) -> "list[str]":
    """The names of the packages that arrived."""
    found = []
    for name in os.listdir(directory):
        if name.endswith(".whl") and stat.S_ISREG(os.lstat(os.path.join(directory, name)).st_mode):
            found.append(name)
    return sorted(found)
