"""Secrets at rest: Fernet tokens, with the key in a file beside them.

The key file is Runicorn's own (`.secret.key`, the bytes of `Fernet.generate_key()`), so that both
programs open each other's tokens. It keeps secrets out of backups and screenshots of
`connections.json`; it does not protect against somebody who can read the user's files.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from runicorn_remote.errors import StateError
from runicorn_remote.services.private_files import create_private, read_private

# Runicorn tells tokens from clear text by the same two marks.
_TOKEN_PREFIX = "gAAAAA"  # noqa: S105 (the version byte and the high bytes of the time)
_LONGER_THAN = 50
# What old versions of Runicorn wrote, with a key of another kind. Kept in the file, not opened.
_OBSOLETE_PREFIX = "ENC:"
_MAX_KEY_BYTES = 4096


class SecretBox:
    """Encrypts and decrypts single values. May be called from any thread and from several processes.

    The key is read on every call: Runicorn may create or restore it beside us.
    """

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    def encrypt(self, text: str) -> str:
        """A Fernet token of `text`; the first call creates the key. Raises `StateError`."""
        fernet = self._fernet()
        if fernet is None:
            # Whoever loses the race uses the winner's key.
            create_private(self._key_file, Fernet.generate_key())
            fernet = self._fernet()
        if fernet is None:
            raise StateError(f"{self._key_file} was removed while it was created. Try again.")
        return fernet.encrypt(text.encode("utf-8")).decode("ascii")

    def decrypt(self, stored: str) -> str:
        """The text of a token.

        A value that is no token is clear text of an older version, and returned as it is.
        Raises `StateError`, with the code `SECRET_UNREADABLE` if the key is not the one of this token.
        """
        if stored.startswith(_OBSOLETE_PREFIX):
            raise _unreadable("it is in an obsolete format")
        if not is_token(stored):
            return stored
        fernet = self._fernet()
        if fernet is None:
            raise _unreadable(f"its key {self._key_file} is missing")
        try:
            return fernet.decrypt(stored.encode("utf-8")).decode("utf-8")
        except (InvalidToken, UnicodeError) as error:
            raise _unreadable(f"{self._key_file} is not the key it was encrypted with") from error

    def _fernet(self) -> Fernet | None:
        key = read_private(self._key_file, _MAX_KEY_BYTES)
        if key is None:
            return None
        try:
            return Fernet(key.strip())
        except ValueError as error:
            raise StateError(
                f"{self._key_file} is not a Fernet key. It was not changed. Put the right key back, "
                "or move this file away and save your passwords again."
            ) from error


def is_token(value: str) -> bool:
    """Whether a stored value is a Fernet token rather than clear text."""
    return value.startswith(_TOKEN_PREFIX) and len(value) > _LONGER_THAN


def _unreadable(why: str) -> StateError:
    return StateError(
        f"A saved secret cannot be decrypted: {why}. Enter and save it again.", code="SECRET_UNREADABLE"
    )
