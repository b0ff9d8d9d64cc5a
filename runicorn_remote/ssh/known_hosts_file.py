"""The known_hosts file on disk, shared with Runicorn and with whoever edits it by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import read_private, state_lock, write_private
from runicorn_remote.ssh.known_hosts import HostEntries, HostKey, KnownHostsText, Verdict
from runicorn_remote.ssh.known_hosts_edit import ListedKey, accepted, listed, removed
from runicorn_remote.ssh.known_hosts_match import SSH_PORT

MAX_BYTES = 64 * 1024 * 1024


class KnownHostsFile:
    """Reads, judges and edits one known_hosts file. May be called from any thread and any process.

    Readers take no lock: the file is only ever replaced as a whole, and they read it anew each time.
    Writers hold `<path>.lock`, at most `lock_timeout` seconds in waiting. A file that does not exist
    is empty. Every method raises `StateError` when the file cannot be read, and then leaves it alone.
    """

    def __init__(self, path: Path, lock_timeout: float = 10.0, *, read_only: bool = False) -> None:
        """`read_only`: not even the mode of the file is put right."""
        self.path = path
        self._lock_timeout = lock_timeout
        self._read_only = read_only

    def lookup(self, host: str, port: int) -> HostEntries:
        """All keys stored for this host, in file order."""
        return self._read().lookup(host, port)

    def lookup_certificate(self, host: str, port: int) -> HostEntries:
        """What is stored for certificates of this host: lines without a port count for every port.

        As with ssh: `@cert-authority *.example.org` is about example.org's hosts on any port.
        """
        document = self._read()
        found = document.lookup(host, port)
        if port == SSH_PORT:
            return found
        anywhere = document.lookup(host, SSH_PORT)
        return HostEntries(
            found.trusted, found.revoked + anywhere.revoked, found.authorities + anywhere.authorities
        )

    def judge(self, host: str, port: int, key_type: str, key_blob: bytes) -> Verdict:
        """Whether the key a handshake showed is this host's. `key_type` is the type within the blob."""
        return self.lookup(host, port).judge(HostKey(key_type, key_blob))

    def list(self) -> list[ListedKey]:
        """Every name that is plainly trusted, with its key, in file order."""
        return listed(self._read())

    def accept(
        self, host: str, port: int, key: HostKey, check: Callable[[Verdict], None] | None = None
    ) -> bool:
        """Make `key` this host's one key of its type. Returns whether the file changed.

        With `check`, a key that is trusted already changes nothing, and `check` may raise when it sees
        what else the file says about it, under the lock, as it is about to change.

        Raises `InvalidValue` for a host that is not exactly one and for a revoked key, `StateError`
        (`KNOWN_HOSTS_LOCKED`, `KNOWN_HOSTS_UNREADABLE`, `KNOWN_HOSTS_UNWRITABLE`).
        """

        def change(document: KnownHostsText) -> str:
            if check is not None:
                verdict = document.lookup(host, port).judge(key)
                if verdict.kind == "trusted":
                    return document.text
                if verdict.kind != "revoked":
                    check(verdict)
            return accepted(document, host, port, key)

        return self._edit(change)

    def remove(self, host: str, port: int, key_type: str) -> bool:
        """Forget this host's plain keys of one type. Returns whether there were any; raises `StateError`."""
        return self._edit(lambda document: removed(document, host, port, key_type))

    def _edit(self, change: Callable[[KnownHostsText], str]) -> bool:
        lock = self.path.with_name(f"{self.path.name}.lock")
        with _failing_with(code="KNOWN_HOSTS_UNWRITABLE"), state_lock(lock, self._lock_timeout):
            document = self._read()
            text = change(document)
            if text == document.text:
                return False
            write_private(self.path, text.encode("utf-8", "surrogateescape"))
            return True

    def _read(self) -> KnownHostsText:
        with _failing_with(code="KNOWN_HOSTS_UNREADABLE"):
            content = read_private(self.path, MAX_BYTES, close_to_others=not self._read_only)
        # Bytes that are not UTF-8 go through unchanged.
        return KnownHostsText((content or b"").decode("utf-8", "surrogateescape"))


@contextmanager
def _failing_with(code: str) -> Iterator[None]:
    """The codes and hints of this file in place of those that all files have."""
    try:
        yield
    except StateError as error:
        if error.code in _HINTS:
            raise
        code = "KNOWN_HOSTS_LOCKED" if error.code == "STATE_LOCKED" else code
        raise StateError(error.reason, code=code, hint=_HINTS[code]) from error


_HINTS = {
    "KNOWN_HOSTS_UNREADABLE": "Repair the file or move it away. It was not overwritten.",
    "KNOWN_HOSTS_UNWRITABLE": "The file is as it was. Check the directory's permissions and the free space.",
    "KNOWN_HOSTS_LOCKED": "Try again; if it stays, see which process holds the lock file.",
}
