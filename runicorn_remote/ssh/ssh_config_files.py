"""What ssh_config files say, read before anybody acts on it: with what they include, as one text.

ssh(1) evaluates `Match exec` while it reads, also for `ssh -G`. So what a file would run has to be
known first; and a file without a word that matters to us needs no ssh at all. The format is that of
ssh_config(5) of OpenSSH 9.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runicorn_remote.errors import SshConfigUnusable

# As in readconf.c of OpenSSH.
_DEEPEST_INCLUDE = 16
_MAX_FILE_BYTES = 1024 * 1024

_KEYWORD = re.compile(r'\s*"?([A-Za-z][A-Za-z0-9]*)"?(?:[ \t]*=[ \t]*|[ \t]+|$)(.*)', re.DOTALL)
# Too many words may look like it; none that is it is missed. It may be quoted or have a `=` behind it.
_EXEC = re.compile(r"\bexec\b", re.IGNORECASE)

# A FIFO must not be waited for, and no terminal become ours.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


@dataclass(frozen=True)
class ConfigText:
    """A configuration as one text, in which no `Include` is left.

    `keywords` in small letters. `match_exec`: where its first `Match exec` stands, or an include that
    cannot be followed; None: nowhere. `nested`: a file that is included within a `Host` or `Match`
    block has such blocks itself, which one text cannot say.
    """

    text: str
    keywords: frozenset[str]
    match_exec: str | None
    nested: bool


def read_config(files: list[tuple[Path, Path]]) -> ConfigText:
    """Read `files`, one after the other; each comes with the directory of its relative includes.

    A file that does not exist is empty, as for ssh. Raises `SshConfigUnusable` for one that cannot
    be read.
    """
    reader = _Reader()
    for path, directory in files:
        reader.read(path, directory)
    return ConfigText(
        "\n".join(reader.lines) + "\n", frozenset(reader.keywords), reader.match_exec, reader.nested
    )


def ssh_home() -> Path:
    """The home directory ssh takes: that of the user database, whatever HOME says."""
    try:
        import pwd

        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):  # Windows; a user without an entry
        return Path.home()


@dataclass
class _Reader:
    lines: list[str] = field(default_factory=list)
    keywords: set[str] = field(default_factory=set)
    match_exec: str | None = None
    nested: bool = False

    def read(self, path: Path, directory: Path) -> None:
        # What follows a block of another file belongs to no block.
        self.lines.append("Match all")
        self._read(path, directory, depth=0, block=None)

    def _read(self, path: Path, directory: Path, depth: int, block: str | None) -> None:
        if depth > _DEEPEST_INCLUDE:
            raise SshConfigUnusable(f"{path}: files include each other more than {_DEEPEST_INCLUDE} deep")
        outer = block
        for number, line in enumerate(_lines(path), 1):
            match = _KEYWORD.match(line)
            if match is None:  # blank, a comment, or something that ssh complains of
                self.lines.append(line)
                continue
            keyword, rest = match[1].lower(), match[2]
            self.keywords.add(keyword)
            if keyword == "include":
                self._include(rest, directory, depth, block, f"{path} line {number}")
                continue
            if keyword in ("host", "match"):
                block = line
                self.nested = self.nested or outer is not None
                if keyword == "match" and _EXEC.search(rest):
                    self._may_execute(f"{path} line {number}")
            self.lines.append(line)

    def _include(self, rest: str, directory: Path, depth: int, block: str | None, where: str) -> None:
        for word in _words(rest, where):
            if "$" in word or "%" in word:  # OpenSSH 10 fills in variables and tokens
                self._may_execute(f"{where} (an Include that depends on the host or the environment)")
            for path in _included(word, directory):
                self._read(path, directory, depth + 1, block)
        if block is not None:
            self.lines.append(block)

    def _may_execute(self, where: str) -> None:
        self.match_exec = self.match_exec or where


def _included(pattern: str, directory: Path) -> Iterator[Path]:
    pattern = os.path.expanduser(pattern)
    for path in sorted(glob.glob(os.path.join(glob.escape(str(directory)), pattern))):
        yield Path(path)


def _words(text: str, where: str) -> Iterator[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SshConfigUnusable(f"{where}: {error}") from error
    for word in words:
        if word.startswith("#"):
            return
        yield word


def _lines(path: Path) -> list[str]:
    try:
        return _read_text(path).split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SshConfigUnusable(f"{path} cannot be read: {error.strerror or error}") from error


def _read_text(path: Path) -> str:
    with open(os.open(path, _READ), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError("not a regular file")
        data = stream.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise OSError("it is too large")
    return data.decode("utf-8", "surrogateescape").replace("\r", "")
