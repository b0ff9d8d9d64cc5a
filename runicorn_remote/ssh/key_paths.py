"""Key files that callers name by path: only below configured directories, and one answer otherwise.

Whoever may send a request names any path on the server's machine. What comes back must not tell
them whether a file exists, what it is, or what is in it; and no path may make the server wait, or
touch a device. So a path is compared before it is looked at, with its links resolved, part by part;
the file is then opened from the root downwards without following a link (openat(2), O_NOFOLLOW):
what was compared is what is read, whatever somebody exchanges meanwhile.

Not stopped: a hard link below a root. It takes write access there, and the right to the file
(Linux: fs.protected_hardlinks).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import paramiko

from runicorn_remote.errors import KeyUnusable
from runicorn_remote.ssh.keys import NotAKey, load_private_key

MAX_KEY_BYTES = 64 * 1024

# A FIFO would hold the request for ever, and a terminal would become ours.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# To pass through a directory, its `x` permission is enough where the platform can do that.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


class KeyPaths:
    """Reads key files below `roots`. May be called from any thread.

    `roots`: directories, `~` is the server's own home; none turns key files off. They are resolved
    anew each time, as a home may be mounted late.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self._roots = tuple(roots)

    def load(self, path: str, passphrase: str | None = None) -> paramiko.PKey:
        """The key in the file `path`.

        Raises `KeyUnusable`: the same for a path that is not allowed, a file that is missing and one
        that holds no key. A key that is one, but encrypted, in PuTTY's format or of a type that
        cannot be used, says so: `PassphraseRequired`, `PassphraseWrong`, `KeyUnusable`.
        """
        try:
            return load_private_key(self._read(path).decode("utf-8"), passphrase)
        except (OSError, ValueError, RuntimeError, NotAKey) as error:
            raise KeyUnusable(
                "The private key file cannot be used: it is missing, not below key_roots, not readable or "
                "not a private key",
                hint="private_key_path is a path on the machine this server runs on, by default in the "
                "home directory of whoever runs it; the setting key_roots names others.",
            ) from error

    def read_public(self, path: str, ending: str = ".pub") -> str | None:
        """The text of the public half beside the key file `path`, if there is one.

        `ending`: "-cert.pub" for the certificate.
        """
        try:
            return self._read(f"{path}{ending}").decode("utf-8")
        except (OSError, ValueError, RuntimeError):
            return None

    def _read(self, path: str) -> bytes:
        if not self._roots:
            raise KeyUnusable(
                "Key files are turned off on this server",
                code="KEY_FILES_OFF",
                hint="Give the text of the key as private_key, or load the key into the server's SSH agent. "
                "The setting key_roots turns them on.",
            )
        # Of other users' homes not even the name is looked up: that may take a while, or not.
        if path.startswith("~") and not path.startswith(("~/", f"~{os.sep}")):
            raise ValueError("another user's home")
        wanted = Path(os.path.abspath(os.path.expanduser(path)))
        roots = [Path(os.path.abspath(os.path.expanduser(root))) for root in self._roots]
        resolved = [Path(os.path.realpath(root)) for root in roots]
        # As written, so that nothing outside is touched at all: it might be an automounter's.
        if not any(wanted.is_relative_to(root) for root in (*roots, *resolved)):
            raise ValueError("outside")
        real = Path(os.path.realpath(wanted))
        for root in resolved:
            if real.is_relative_to(root) and real != root:
                return _read_below(root, real.relative_to(root).parts)
        raise ValueError("outside, by a link")


def read_own_key(path: Path) -> str:
    """The text of a key file that nobody but ourselves has named; links are followed, as ssh does.

    Raises `OSError`, `ValueError`.
    """
    return _read_regular(os.open(path, _READ)).decode("utf-8")


def _read_below(root: Path, parts: tuple[str, ...]) -> bytes:
    """The file at `parts` below `root`, none of which may be a link. Raises `OSError`, `ValueError`."""
    if os.open not in os.supports_dir_fd:  # Windows
        return _read_regular(os.open(root.joinpath(*parts), _READ))
    directory = os.open(root, _PASS)
    try:
        for part in parts[:-1]:
            below = os.open(part, _PASS | _NO_LINK, dir_fd=directory)
            os.close(directory)
            directory = below
        # Before it is opened, too: to open a device may do something.
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=directory, follow_symlinks=False).st_mode):
            raise ValueError("not a regular file")
        descriptor = os.open(parts[-1], _READ | _NO_LINK, dir_fd=directory)
    finally:
        os.close(directory)
    return _read_regular(descriptor)


def _read_regular(descriptor: int) -> bytes:
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = stream.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise ValueError("too long for a key")
    return data
