"""The one place where a string becomes part of a shell command."""

from __future__ import annotations

import shlex


def quote(text: str) -> str:
    """Quote for a POSIX shell. Raises ValueError for NUL, which no argument can hold."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be passed to a command")
    return shlex.quote(text)
