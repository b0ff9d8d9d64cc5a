"""Secrets at rest: Fernet tokens, with the key in a file beside them or in a safer place.

The key file is Runicorn's own (`.secret.key`, the bytes of `Fernet.generate_key()`), so that both
programs open each other's tokens. It keeps secrets out of backups and screenshots of
`connections.json`; it does not protect against somebody who can read the user's files.
`secret_keys` has the other places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cryptography.fernet import Fernet, InvalidToken

from runicorn_remote.errors import StateError
from runicorn_remote.services.secret_keys import SecretKeys

# Runicorn tells tokens from clear text by the same two marks.
_TOKEN_PREFIX = "gAAAAA"  # noqa: S105 (the version byte and the high bytes of the time)
_LONGER_THAN = 50
# What old versions of Runicorn wrote, with a key of another kind. Kept in the file, not opened.
_OBSOLETE_PREFIX = "ENC:"


class SecretBox:
    """Encrypts and decrypts single values. May be called from any thread and from several processes."""

    def __init__(self, keys: SecretKeys, earlier: Sequence[SecretKeys] = ()) -> None:
        """`keys`: what is encrypted with. `earlier`: more places whose keys may open older tokens."""
        self.keys = keys
        self.earlier = earlier

    def encrypt(self, text: str) -> str:
        """A Fernet token of `text`; the first call creates the key. Raises `StateError`."""
        key = self.keys.current()
        if key is None:
            self.keys.create(Fernet.generate_key())
            self.keys.forget()
            key = self.keys.current()
        if key is None:
            raise StateError(f"{self.keys.name} was removed while it was created. Try again.")
        return encrypted(text, _fernet(key, self.keys))

    def decrypt(self, stored: str) -> str:
        """The text of a token.

        A value that is no token is clear text of an older version, and returned as it is.
        Raises `StateError`, with the code `SECRET_UNREADABLE` if no key we have is the one of this token.
        """
        if stored.startswith(_OBSOLETE_PREFIX):
            raise _unreadable("it is in an obsolete format")
        if not is_token(stored):
            return stored
        tried: set[bytes] = set()
        # A second time: the key may be changed between two looks.
        for _ in range(2):
            for key, keys in self._all():
                if key in tried:
                    continue
                tried.add(key)
                try:
                    return _fernet(key, keys).decrypt(stored.encode("utf-8")).decode("utf-8")
                except (InvalidToken, UnicodeError):
                    continue
            self.keys.forget()
        if not tried:
            raise _unreadable(f"its key {self.keys.name} is missing")
        raise _unreadable(f"{self.keys.name} is not the key it was encrypted with")

    def staged(self) -> Fernet:
        """What to encrypt with for a change of the key, until `commit` of its place makes it the current one.

        Raises `StateError`.
        """
        return _fernet(self.keys.stage(), self.keys)

    def _all(self) -> Iterator[tuple[bytes, SecretKeys]]:
        """Every key, the likeliest first; a place is asked only if those before did not do."""
        for keys in (self.keys, *self.earlier):
            for read in (keys.current, keys.next):
                key = read()
                if key is not None:
                    yield key, keys


def encrypted(text: str, fernet: Fernet) -> str:
    return fernet.encrypt(text.encode("utf-8")).decode("ascii")


def _fernet(key: bytes, keys: SecretKeys) -> Fernet:
    try:
        return Fernet(key.strip())
    except ValueError as error:
        raise StateError(
            f"{keys.name} is not a Fernet key. It was not changed. Put the right key back, "
            "or move this one away and save your passwords again."
        ) from error


def is_token(value: str) -> bool:
    """Whether a stored value is a Fernet token rather than clear text."""
    return value.startswith(_TOKEN_PREFIX) and len(value) > _LONGER_THAN


def _unreadable(why: str) -> StateError:
    return StateError(
        f"A saved secret cannot be decrypted: {why}. Enter and save it again.", code="SECRET_UNREADABLE"
    )
