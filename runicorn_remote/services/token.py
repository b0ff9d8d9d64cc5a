"""The token that requests have to bring, where one is set."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import read_private
from runicorn_remote.redaction import redactor
from runicorn_remote.settings import Settings, SettingsError

VARIABLE = "RUNICORN_REMOTE_TOKEN"
# As long as 128 random bits in hexadecimal: nobody guesses that one request at a time.
_SHORTEST = 32
_LONGEST = 1024


def load_token(settings: Settings, environ: Mapping[str, str] | None = None) -> str | None:
    """The token of `token_file`, else of the environment, else None.

    Raises `SettingsError` for one that is missing or too short, and when the server is to listen to
    other machines without any.
    """
    token = None
    if settings.token_file is not None:
        token = _read(Path(settings.token_file).expanduser())
    elif VARIABLE in (environ if environ is not None else os.environ):
        token = (environ if environ is not None else os.environ)[VARIABLE].strip()
    if token is not None:
        redactor.register([token])
        if not _SHORTEST <= len(token) <= _LONGEST or not token.isprintable() or " " in token:
            raise SettingsError(
                f"The token has to be {_SHORTEST} to {_LONGEST} printable characters without spaces, such as "
                "those of: openssl rand -hex 32"
            )
    elif settings.unix_socket is None and not is_loopback(settings.host):
        raise SettingsError(
            f"host: {settings.host} can be reached from other machines; set token_file for that "
            "(openssl rand -hex 32 > FILE; chmod 600 FILE)"
        )
    return token


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        data = read_private(path, _LONGEST + 2)
    except StateError as error:
        raise SettingsError(f"token_file: {error}") from error
    if data is None:
        raise SettingsError(f"token_file: {path} does not exist; make one: openssl rand -hex 32 > {path}")
    return data.decode("utf-8", "replace").strip()
