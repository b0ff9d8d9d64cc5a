"""The known_hosts file on disk, shared with Runicorn and with whoever edits it by hand."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from runicorn_remote.errors import StateError
from runicorn_remote.ssh.known_hosts import HostEntries, HostKey, KnownHostsText, Verdict
from runicorn_remote.ssh.known_hosts_edit import ListedKey, accepted, listed, removed

_POLL_INTERVAL = 0.02


class KnownHostsFile:
    """Reads, judges and edits one known_hosts file. May be called from any thread and any process.

    Readers take no lock: the file is only ever replaced as a whole, and they read it anew each time.
    Writers hold `<path>.lock`, at most `lock_timeout` seconds in waiting. A file that does not exist
    is empty. Every method raises `StateError` when the file cannot be read, and then leaves it alone.
    """

    def __init__(self, path: Path, lock_timeout: float = 10.0) -> None:
        self.path = path
        self._lock_timeout = lock_timeout

    def lookup(self, host: str, port: int) -> HostEntries:
        """All keys stored for this host, in file order."""
        return self._read().lookup(host, port)

    def stored_types(self, host: str, port: int) -> tuple[str, ...]:
        """The key types (`ssh-rsa`, not its signature algorithms) to ask this host for first."""
        return self.lookup(host, port).stored_types

    def judge(self, host: str, port: int, key_type: str, key_blob: bytes) -> Verdict:
        """Whether the key a handshake showed is this host's. `key_type` is the type within the blob."""
        return self.lookup(host, port).judge(HostKey(key_type, key_blob))

    def list(self) -> list[ListedKey]:
        """Every name that is plainly trusted, with its key, in file order."""
        return listed(self._read())

    def accept(self, host: str, port: int, key: HostKey) -> bool:
        """Make `key` this host's one key of its type. Returns whether the file changed.

        Raises `InvalidValue` for a host that is not exactly one and for a revoked key, `StateError`
        (`KNOWN_HOSTS_LOCKED`, `KNOWN_HOSTS_UNREADABLE`, `KNOWN_HOSTS_UNWRITABLE`).
        """
        return self._edit(lambda document: accepted(document, host, port, key))

    def remove(self, host: str, port: int, key_type: str) -> bool:
        """Forget this host's plain keys of one type. Returns whether there were any; raises `StateError`."""
        return self._edit(lambda document: removed(document, host, port, key_type))

    def _edit(self, change: Callable[[KnownHostsText], str]) -> bool:
        with self._locked():
            document = self._read()
            text = change(document)
            if text == document.text:
                return False
            self._replace(text)
            return True

    def _read(self) -> KnownHostsText:
        try:
            with open(self.path, "rb", opener=_open_without_waiting) as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise StateError(
                        f"{self.path}: not a regular file",
                        code="KNOWN_HOSTS_UNREADABLE",
                        hint=_UNREADABLE_HINT,
                    )
                content = stream.read()
        except FileNotFoundError:
            content = b""
        except OSError as error:
            raise StateError(
                f"{self.path}: cannot be read: {error.strerror or error}",
                code="KNOWN_HOSTS_UNREADABLE",
                hint=_UNREADABLE_HINT,
            ) from error
        # Bytes that are not UTF-8 go through unchanged.
        return KnownHostsText(content.decode("utf-8", "surrogateescape"))

    def _replace(self, text: str) -> None:
        # A link (into a dotfiles repository, say) stays one: what it points to is replaced.
        target = Path(os.path.realpath(self.path))
        temporary: str | None = None
        try:
            _make_private_directory(target.parent)
            # mkstemp creates with 0600, and the replaced file keeps that: whom we know is private.
            descriptor, temporary = tempfile.mkstemp(
                dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"
            )
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(text.encode("utf-8", "surrogateescape"))
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
            temporary = None
            _sync_directory(target.parent)
        except OSError as error:
            raise StateError(
                f"{self.path}: cannot be written: {error.strerror or error}",
                code="KNOWN_HOSTS_UNWRITABLE",
                hint="The file is as it was. Check the directory's permissions and the free space.",
            ) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock_path = f"{self.path}.lock"
        try:
            _make_private_directory(self.path.parent)
            # A lock object a use: threads of this process then exclude each other as processes do.
            lock = FileLock(lock_path, timeout=self._lock_timeout, mode=0o600)
            lock.acquire(poll_interval=_POLL_INTERVAL)
        except Timeout as error:
            raise StateError(
                f"{self.path}: another process is writing it, and its lock was not free within "
                f"{self._lock_timeout:g} s",
                code="KNOWN_HOSTS_LOCKED",
                hint="Try again; if it stays, see which process holds the lock file beside it.",
            ) from error
        except (OSError, NotImplementedError) as error:
            raise StateError(
                f"{lock_path}: cannot be locked: {getattr(error, 'strerror', None) or error}",
                code="KNOWN_HOSTS_UNWRITABLE",
            ) from error
        try:
            yield
        finally:
            lock.release()


_UNREADABLE_HINT = "Repair the file or move it away. It was not overwritten."


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a FIFO in its place must not make us wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _make_private_directory(path: Path) -> None:
    """Create what is missing of `path` with 0700; what exists keeps its mode."""
    for directory in reversed([path, *path.parents]):
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)


def _sync_directory(path: Path) -> None:
    """Make the replacement survive a power cut, where directories can be synced."""
    if os.name == "nt":
        return
    # Some network file systems refuse; the file itself is written.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
