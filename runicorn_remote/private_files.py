"""Files and directories that only their owner may touch.

Everything here refuses rather than repairs what somebody else could have put in place: a symbolic
link, a file or directory of another user, a directory that all users share. Files get their final
mode when they are created and are replaced whole, so that a reader sees the old content or the new
one and a full disk costs nothing. All functions raise `StateError` with a sentence that names the
file and says what to do. They may be called from any thread. On Windows the checks of owner and
mode do not apply.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from runicorn_remote.errors import StateError

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
# Not every platform has every flag. O_NONBLOCK: opening a FIFO must not wait for its other end.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _SAFELY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
_SHARED = stat.S_ISVTX | stat.S_IWOTH

_ADVICE = {
    errno.ENOSPC: "Make room on the disk and try again.",
    errno.EDQUOT: "Your disk quota is used up: make room and try again.",
    errno.EFBIG: "Raise the limit of the file size (ulimit -f) and try again.",
    errno.EROFS: "The file system is read-only: choose another place with --state-dir.",
    errno.EACCES: "Check the permissions of the file and its directory.",
    errno.EPERM: "Check the permissions of the file and its directory.",
    errno.ELOOP: "It is a symbolic link: put the real file there.",
    errno.EMLINK: "It is a symbolic link: put the real file there.",
}


def make_private_directory(path: Path) -> None:
    """Create `path` and its missing parents with mode 0700; close an existing one of ours to others."""
    try:
        missing = []
        for directory in (path, *path.parents):
            if os.path.lexists(directory):
                break
            missing.append(directory)
        for directory in reversed(missing):
            # Another process may be doing the same. Whatever it made is checked below.
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, _DIRECTORY_MODE)
        status = os.lstat(path)
        _refuse_unsafe_directory(path, status)
        if _owners_apply() and stat.S_IMODE(status.st_mode) & 0o077:
            os.chmod(path, _DIRECTORY_MODE)
    except OSError as error:
        raise StateError(f"The directory {path} cannot be used: {_reason(error)}") from error


def read_private(path: Path, max_bytes: int, *, close_to_others: bool = True) -> bytes | None:
    """The content of a file of ours, None if there is no such file.

    A file that others may read is closed to them on the way, unless nothing is to be changed.
    """
    try:
        _refuse_unsafe_directory(path.parent, os.lstat(path.parent))
        _refuse_link_where_open_would_follow(path)
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        _refuse_unsafe_file(path, status)
        if close_to_others:
            _close_to_others(descriptor, status)
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    if len(data) > max_bytes:
        raise StateError(
            f"{path} cannot be read: it is larger than {max_bytes} bytes. It was not changed. "
            "Repair it, or move it away."
        )
    return data


def write_private(path: Path, data: bytes) -> None:
    """Replace the file as a whole, mode 0600. After a failure the old one is still there, untouched."""
    make_private_directory(path.parent)
    try:
        _refuse_unsafe_target(path)
        temporary = _write_temporary(path, data)
        try:
            os.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    _sync_directory(path.parent)


def create_private(path: Path, data: bytes) -> bool:
    """Create the file with this content, mode 0600, unless it exists; whether it was created.

    Of several processes exactly one creates it, and the others find it complete.
    """
    make_private_directory(path.parent)
    try:
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without hard links. Still exclusive, but a reader may come in between.
            _write_new(path, data)
        finally:
            _unlink(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    _sync_directory(path.parent)
    return True


def replace_private(source: Path, path: Path) -> None:
    """Put one file of ours in the place of another, or of none, beside it."""
    try:
        for file in (source, path):
            _refuse_unsafe_target(file)
        os.replace(source, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    _sync_directory(path.parent)


def remove_private(path: Path) -> None:
    """Remove a file of ours, if it is there."""
    try:
        _refuse_unsafe_target(path)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    _sync_directory(path.parent)


@contextlib.contextmanager
def state_lock(path: Path, timeout: float) -> Iterator[None]:
    """Keep other processes and threads out for a read, modify, replace; waits at most `timeout` seconds.

    Makes the directory. `StateError` with the code `STATE_LOCKED` when somebody else holds it.
    """
    make_private_directory(path.parent)
    # A lock object a use: threads of this process then exclude each other as processes do.
    lock = FileLock(path, timeout=timeout, mode=_FILE_MODE)
    try:
        lock.acquire()
    except Timeout as error:
        raise StateError(
            f"{path} has been held by another process for {timeout:g} seconds. "
            "Nothing was changed. Try again.",
            code="STATE_LOCKED",
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "the file system has no locks."
        raise StateError(f"{path} cannot be locked: {reason} Nothing was changed.") from error
    try:
        yield
    finally:
        lock.release()


def check_directory(path: Path) -> int | None:
    """The permission bits of a directory of ours, None if there is none. Changes nothing."""
    return _checked(path, _refuse_unsafe_directory)


def check_file(path: Path) -> int | None:
    """The permission bits of a file of ours, None if there is none. Changes nothing."""
    return _checked(path, _refuse_unsafe_file)


def _checked(path: Path, refuse: Callable[[Path, os.stat_result], None]) -> int | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be used: {_reason(error)}") from error
    refuse(path, status)
    return stat.S_IMODE(status.st_mode)


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    _write_new(temporary, data)
    return temporary


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, _CREATE, _FILE_MODE)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        _unlink(path)
        raise


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut. Where that is not possible the file is good all the same."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _refuse_unsafe_directory(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise StateError(
            f"{path} is a symbolic link, and secrets are kept there. "
            "Make it a real directory, or name the real one with --state-dir."
        )
    if not stat.S_ISDIR(status.st_mode):
        raise StateError(f"{path} is not a directory. Move it away, or choose another with --state-dir.")
    if _is_foreign(status):
        raise StateError(
            f"The directory {path} belongs to another user (uid {status.st_uid}). "
            "Take it over with chown, or choose one of your own with --state-dir."
        )
    if _owners_apply() and status.st_mode & _SHARED == _SHARED:
        raise StateError(
            f"The directory {path} is shared by all users, and secrets are kept there. "
            "Choose one of your own with --state-dir."
        )


def _refuse_unsafe_file(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise StateError(f"{path} is a symbolic link. It was not changed. Put the real file there.")
    if not stat.S_ISREG(status.st_mode):
        raise StateError(f"{path} is not a regular file. It was not changed. Move it away.")
    if _is_foreign(status):
        raise StateError(
            f"{path} belongs to another user (uid {status.st_uid}). It was not changed. "
            "Take it over with chown, or move it away."
        )


def _refuse_unsafe_target(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        _refuse_unsafe_file(path, os.lstat(path))


def _refuse_link_where_open_would_follow(path: Path) -> None:
    if not hasattr(os, "O_NOFOLLOW"):
        _refuse_unsafe_target(path)


def _close_to_others(descriptor: int, status: os.stat_result) -> None:
    if _owners_apply() and stat.S_IMODE(status.st_mode) & 0o077:
        # On a read-only file system the file can still be used.
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, _FILE_MODE)


def _owners_apply() -> bool:
    return hasattr(os, "geteuid")


def _is_foreign(status: os.stat_result) -> bool:
    return _owners_apply() and status.st_uid != os.geteuid()


def _unreadable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path} cannot be read: {_reason(error)} It was not changed.")


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path} cannot be written: {_reason(error)} It was not changed.")


def _reason(error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0, "Check the directory and the disk.")
    return f"{error.strerror or type(error).__name__}. {advice}"
