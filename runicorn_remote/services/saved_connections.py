"""The servers and connection profiles a user saved, in Runicorn's own `connections.json`.

A client sees the list without secrets and posts the whole list back, so a secret that is absent
from a known entry has to be kept. Runicorn may change the file beside us: it is read on every call,
and our own writers take `connections.json.lock`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runicorn_remote import redaction
from runicorn_remote.errors import InvalidValue, SavedServerNotFound, StateError
from runicorn_remote.private_files import read_private, state_lock, write_private
from runicorn_remote.services.saved_entries import (
    FLAGS,
    MAX_FILE_BYTES,
    SECRET_FIELDS,
    Arranged,
    Entry,
    Key,
    arrange,
    fault,
    from_json,
    is_same_account,
    key_of,
    normalised,
    to_json,
)
from runicorn_remote.services.saved_secrets import SavedSecrets, SavedServer, has_secrets, without_secrets
from runicorn_remote.services.secret_box import SecretBox

MAX_ENTRIES = 1000

# Inside the class below `list` is its method.
Entries = list[Entry]
Items = list[Any]
Answer = TypeVar("Answer")


class SavedConnections:
    """Lists, replaces and looks up saved entries. May be called from any thread.

    Every method raises `StateError` if the file cannot be used; it is not changed then. `lock_timeout`
    is in seconds. Without `store_secrets` no secret is written, those in the file are not used, and they
    are gone with the next save.
    """

    def __init__(
        self,
        path: Path,
        box: SecretBox,
        redactor: redaction.Redactor = redaction.redactor,
        lock_timeout: float = 10.0,
        *,
        store_secrets: bool = True,
    ) -> None:
        self._path = path
        self._secrets = SavedSecrets(box, redactor, in_use=store_secrets)
        self._redactor = redactor
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock_timeout = lock_timeout
        self._store_secrets = store_secrets

    def list(self) -> Entries:
        """All servers and connections, without their secrets; servers with the three `hasSaved…` flags."""

        def mask(stored: Arranged) -> tuple[Entries, bool]:
            masked = [self._secrets.masked(entry) for entry in stored.shown]
            return [entry for entry, _ in masked], all(readable for _, readable in masked)

        return self._consistently(mask)

    def replace(self, entries: Sequence[Any]) -> bool:
        """Save `entries` as the whole new list; whether all their secrets were saved.

        Absent secrets of known entries are kept; null, an empty text or a `hasSaved…: false` without
        the secret forgets them. Raises `InvalidValue` for a list that cannot be saved.
        """
        posted = self._validated(entries)
        with state_lock(self._lock_path, self._lock_timeout):
            stored = self._load()
            keys = {key_of(entry) for entry in posted}
            items = [self._secrets.to_store(entry, _before(entry, keys, stored)) for entry in posted]
            items += stored.hidden
            if not self._store_secrets:
                items = [without_secrets(item) for item in items]
            write_private(self._path, self._encoded(items))
        return self._store_secrets or not any(map(has_secrets, posted))

    def server(self, server_id: str) -> SavedServer:
        """The server with its secrets. Raises `SavedServerNotFound`."""

        def find(stored: Arranged) -> tuple[SavedServer, bool]:
            entry = stored.get(("server", server_id))
            if entry is None:
                raise SavedServerNotFound(server_id[:200])
            opened = self._secrets.opened(entry)
            return opened, not opened.unreadable

        return self._consistently(find)

    def has_secrets(self) -> bool:
        """Whether there are any in the file, used or not."""
        stored = self._load()
        return any(has_secrets(item) for item in (*stored.shown, *stored.hidden))

    def _consistently(self, use: Callable[[Arranged], tuple[Answer, bool]]) -> Answer:
        """What `use` makes of the file. It says whether it could read all secrets.

        If not, the key may have been changed between our look at the file and that at the key: once more.
        """
        data = self._data()
        answer, readable = use(self._arranged(data))
        if not readable:
            again = self._data()
            if again != data:
                answer, _ = use(self._arranged(again))
        return answer

    def _load(self) -> Arranged:
        return self._arranged(self._data())

    def _data(self) -> bytes | None:
        return read_private(self._path, MAX_FILE_BYTES)

    def _arranged(self, data: bytes | None) -> Arranged:
        if data is None:
            return arrange([])
        try:
            items = from_json(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._unusable("it is not valid JSON") from error
        if not isinstance(items, list):
            raise self._unusable("it is not a JSON array")
        return arrange(items)

    def _unusable(self, why: str) -> StateError:
        return StateError(
            f"{self._path} cannot be read: {why}. It was not changed. "
            "Repair it, or move it away to start anew."
        )

    def _validated(self, entries: Sequence[Any]) -> Entries:
        if not isinstance(entries, (list, tuple)):
            raise InvalidValue("Send the whole list of saved connections as a JSON array.")
        if len(entries) > MAX_ENTRIES:
            raise InvalidValue(f"The list has {len(entries)} entries; at most {MAX_ENTRIES} can be saved.")
        posted: Entries = []
        seen: set[Key] = set()
        for number, item in enumerate(entries, 1):
            if not isinstance(item, dict):
                raise InvalidValue(f"Entry {number} of the list is not an object.")
            entry = normalised(item)
            # Before anything can be said about it.
            self._redactor.register(
                value for value in map(entry.get, SECRET_FIELDS) if isinstance(value, str)
            )
            problem = fault(entry)
            if not problem and key_of(entry) in seen:
                problem = "another entry has the same id"
            if problem:
                label = f"Entry {number} of the list{self._quoted(entry.get('name'))}"
                raise InvalidValue(f"{label} cannot be saved: {problem}.")
            seen.add(key_of(entry))
            posted.append(entry)
        return posted

    def _quoted(self, name: Any) -> str:
        if not isinstance(name, str) or not name:
            return ""
        shown = name if name.isprintable() else ascii(name)[1:-1]
        return f' ("{self._redactor.redact(shown)[:60]}")'

    def _encoded(self, items: Items) -> bytes:
        try:
            data = to_json(items)
        except (ValueError, RecursionError) as error:
            raise self._unusable("an entry in it cannot be written back") from error
        if len(data) > MAX_FILE_BYTES:
            raise InvalidValue(f"The list is too large to be saved: more than {MAX_FILE_BYTES} bytes.")
        return data


def _before(entry: Entry, posted_keys: set[Key], stored: Arranged) -> Entry:
    """The stored form of a posted entry; empty for a new one.

    The frontend gives servers ids of its own and posts them back without secrets, with the flags it
    was shown: such a server is found by its account, if no posted entry has its old id.
    """
    known = stored.get(key_of(entry))
    if known is None and any(entry.get(flag) is True for flag in FLAGS.values()):
        renamed = (other for other in stored.shown if is_same_account(other, entry))
        known = next((other for other in renamed if key_of(other) not in posted_keys), None)
    return known or {}
