"""The secrets of saved entries: sealed on their way into the file, opened on their way out of it.

A client sees entries without secrets and posts them back so; a secret that is absent is kept then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from runicorn_remote import redaction
from runicorn_remote.errors import StateError
from runicorn_remote.services.saved_entries import FLAGS, SECRET_FIELDS, Entry, normalised
from runicorn_remote.services.secret_box import SecretBox, is_token

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SavedServer:
    """A saved server with its secrets in clear. An absent secret is None.

    `unreadable` names the secrets that are saved and cannot be decrypted (their value is None).
    """

    id: str
    host: str
    port: int
    username: str
    auth_method: str | None = None
    private_key_path: str | None = None
    password: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    unreadable: tuple[str, ...] = ()


class SavedSecrets:
    """May be called from any thread. Every secret it opens is registered with the redactor.

    Without `in_use` the secrets in the file are not used.
    """

    def __init__(self, box: SecretBox, redactor: redaction.Redactor, *, in_use: bool) -> None:
        self._box = box
        self._redactor = redactor
        self._in_use = in_use

    def masked(self, entry: Entry) -> tuple[Entry, bool]:
        """-> without its secrets, and whether all of them can be read."""
        secrets = {name: entry[name] for name in self._used(entry)}
        opened = {name: self._open(secrets[name]) for name in FLAGS if name in secrets}
        result = {name: value for name, value in entry.items() if name not in SECRET_FIELDS}
        if entry["kind"] == "server":
            for name, flag in FLAGS.items():
                result[flag] = bool(opened.get(name))
            result["hasSavedPrivateKey"] = result["hasSavedPrivateKey"] or bool(entry.get("privateKeyPath"))
        return result, None not in opened.values()

    def opened(self, entry: Entry) -> SavedServer:
        """A server with its secrets in clear."""
        secrets = {name: self._open(entry[name]) for name in FLAGS if name in self._used(entry)}
        auth_method = entry.get("authMethod")
        return SavedServer(
            id=entry["id"],
            host=entry["host"],
            port=entry["port"],
            username=entry["username"],
            auth_method=auth_method if isinstance(auth_method, str) else None,
            private_key_path=entry.get("privateKeyPath") or None,
            unreadable=tuple(name for name, value in secrets.items() if value is None),
            **{name: value or None for name, value in secrets.items()},
        )

    def to_store(self, entry: Entry, before: Entry) -> Entry:
        """The entry as it goes into the file: secrets sealed, those it leaves open taken from `before`."""
        result = dict(entry)
        for name in SECRET_FIELDS:
            given, kept = result.pop(name, None), before.get(name)
            if given:
                result[name] = self._sealed(given)
            elif kept and name not in entry and not self._is_forgotten(name, entry, kept):
                result[name] = self._kept(kept)
        if entry["kind"] == "server":
            kept_path = before.get("privateKeyPath")
            if "privateKeyPath" not in entry and kept_path and entry.get("hasSavedPrivateKey") is not False:
                result["privateKeyPath"] = kept_path
            if not result.get("privateKeyPath"):
                result.pop("privateKeyPath", None)
            for flag in FLAGS.values():
                result.pop(flag, None)
        return result

    def _is_forgotten(self, name: str, entry: Entry, kept: str) -> bool:
        """Whether a flag forgets an absent secret.

        A secret we cannot decrypt was reported as not saved, and that flag comes back with every save:
        it says nothing then, and the secret stays for the day its key is back.
        """
        return entry.get(FLAGS.get(name, "")) is False and self._open(kept) is not None

    def _sealed(self, secret: str) -> str:
        """The token of a new secret. A token of ours (a restored backup) is taken as it is."""
        if is_token(secret) and self._open(secret) is not None:
            return secret
        return self._box.encrypt(secret)

    def _kept(self, stored: str) -> str:
        """A stored value, unchanged unless it is clear text of an older version."""
        if is_token(stored):
            return stored
        clear = self._open(stored)
        return stored if clear is None else self._box.encrypt(clear)

    def _open(self, stored: str) -> str | None:
        """The text of a stored secret, registered with the redactor; None if it cannot be decrypted."""
        try:
            text = self._box.decrypt(stored)
        except StateError as error:
            logger.warning("%s", error)
            return None
        self._redactor.register([text])
        return text

    def _used(self, entry: Entry) -> list[str]:
        """The names of the stored secrets that count."""
        return [name for name in SECRET_FIELDS if self._in_use and entry.get(name)]


def has_secrets(item: Any) -> bool:
    return isinstance(item, dict) and any(normalised(item).get(name) for name in SECRET_FIELDS)


def without_secrets(item: Any) -> Any:
    """Also of an entry that is shown to nobody."""
    if not has_secrets(item):
        return item
    return {name: value for name, value in normalised(item).items() if name not in SECRET_FIELDS}
