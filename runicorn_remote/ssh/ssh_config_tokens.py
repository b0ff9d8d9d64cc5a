"""The `%` tokens and `${VARIABLES}` of ssh_config(5), "TOKENS" and "ENVIRONMENT VARIABLES"."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from runicorn_remote.errors import SshConfigUnusable

_TOKEN = re.compile(r"%(.?)", re.DOTALL)
_TOKEN_OR_VARIABLE = re.compile(r"%(.?)|\$\{([^}]*)\}", re.DOTALL)


def tokens_of(name: str, hostname: str, port: int, user: str, alias: str | None) -> dict[str, str]:
    """What each token stands for. `name` is the host as it was given, `alias` its HostKeyAlias."""
    local = socket.gethostname()
    hashed = f"{local}{hostname}{port}{user}"
    return {
        "%": "%",
        "C": hashlib.sha1(hashed.encode(), usedforsecurity=False).hexdigest(),
        "d": str(Path.home()),
        "h": hostname,
        "i": str(os.getuid()) if hasattr(os, "getuid") else "",
        "j": "",
        "k": alias or name,
        "L": local.partition(".")[0],
        "l": local,
        "n": name,
        "p": str(port),
        "r": user,
        "u": local_user(),
    }


def expand_tokens(text: str, tokens: Mapping[str, str]) -> str:
    """Raises `SshConfigUnusable` for a token that does not exist, as ssh does."""
    return _TOKEN.sub(lambda match: _token(match, text, tokens), text)


def expand_path(text: str, tokens: Mapping[str, str]) -> str:
    """A file name with its tokens, `${VARIABLES}` and `~` filled in. Raises `SshConfigUnusable`."""

    def value(match: re.Match[str]) -> str:
        if match[2] is None:
            return _token(match, text, tokens)
        if match[2] not in os.environ:
            raise SshConfigUnusable(f"ssh_config: {match[0]} in {text!r} is not set in the environment")
        return os.environ[match[2]]

    return os.path.expanduser(_TOKEN_OR_VARIABLE.sub(value, text))


def _token(match: re.Match[str], text: str, tokens: Mapping[str, str]) -> str:
    if match[1] not in tokens:
        raise SshConfigUnusable(f"ssh_config: unknown token {match[0]} in {text!r}")
    return tokens[match[1]]


def local_user() -> str:
    """Whom ssh takes when nobody says who. Raises `SshConfigUnusable` for a user without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise SshConfigUnusable("The user this server runs as has no name") from error
