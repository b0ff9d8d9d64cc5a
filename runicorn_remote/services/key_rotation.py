"""A new key for the saved secrets, without ever losing one.

Two places change, and a crash may come between any two steps: the next key is kept beside the current
one before the first token of it exists, `connections.json` is replaced as a whole, and then the next key
becomes the current one. Whoever decrypts tries both. A change that was cut off is finished by the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import read_private, state_lock, write_private
from runicorn_remote.services.saved_entries import MAX_FILE_BYTES, from_json, to_json
from runicorn_remote.services.secret_box import SecretBox, encrypted, is_token


@dataclass(frozen=True)
class Rotation:
    """How many tokens there are under the new key, and how many no key opens: those are as they were."""

    secrets: int
    unreadable: int
    new_place: str
    removed: tuple[str, ...]


def rotate_key(path: Path, box: SecretBox, lock_timeout: float = 10.0) -> Rotation:
    """Encrypt everything in `connections.json` under a new key. Safe beside running servers of ours.

    Keys of `box.earlier` are removed afterwards: nothing is left that needs them. Raises `StateError`;
    every secret can be read as before then.
    """
    with state_lock(path.with_name(f"{path.name}.lock"), lock_timeout):
        items = _read(path)
        change = _Change(box, box.staged())
        try:
            changed = change.of(items)
            data = to_json(changed)
        except (ValueError, RecursionError) as error:
            raise _unusable(path) from error
        if change.secrets:
            write_private(path, data)
        box.keys.commit()
        removed = tuple(keys.name for keys in box.earlier if keys.current() is not None and keys.remove())
    return Rotation(change.secrets, change.unreadable, box.keys.name, removed)


class _Change:
    """Tokens are found by what they are, wherever they stand: also in entries that are shown to nobody."""

    def __init__(self, box: SecretBox, fernet: Fernet) -> None:
        self._box = box
        self._fernet = fernet
        self.secrets = 0
        self.unreadable = 0

    def of(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if isinstance(value, dict):
            return {name: self.of(item) for name, item in value.items()}
        if isinstance(value, str) and is_token(value):
            return self._token(value)
        return value

    def _token(self, token: str) -> str:
        try:
            text = self._box.decrypt(token)
        except StateError as error:
            if error.code != "SECRET_UNREADABLE":
                raise
            self.unreadable += 1
            return token
        self.secrets += 1
        return encrypted(text, self._fernet)


def _read(path: Path) -> Any:
    data = read_private(path, MAX_FILE_BYTES)
    if data is None:
        return []
    try:
        return from_json(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unusable(path) from error


def _unusable(path: Path) -> StateError:
    return StateError(f"{path} cannot be read: it is not valid JSON. Neither it nor the key was changed.")
