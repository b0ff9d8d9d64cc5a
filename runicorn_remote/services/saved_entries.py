"""The entries of `connections.json` as values: their spelling, their faults, their older forms.

    server       {"kind": "server", "id", "name", "host", "port", "username", "authMethod", …}
    connection   {"kind": "connection", "id", "serverId", "name", "condaEnv"?, "remoteRoot"?, …}

The frontend takes a list only if it understands every entry of it, and goes blank over some values.
So one function, `fault`, decides both what may be saved and what is shown: whatever is shown can be
posted back. Everything else in a file is `hidden`: never shown, never touched.
Nothing here reads a file or opens a secret. All functions are pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]
Key = tuple[str, str]

KINDS = ("server", "connection")
# Runicorn encrypts these six wherever they stand in an entry, and cannot load a file in which one
# of them is neither text nor null.
SECRET_FIELDS = ("password", "private_key", "passphrase", "secret", "token", "api_key")
FLAGS = {
    "password": "hasSavedPassword",
    "private_key": "hasSavedPrivateKey",
    "passphrase": "hasSavedPassphrase",
}
DEFAULT_PORT = 22
MAX_FILE_BYTES = 16 * 1024 * 1024

_SPELLINGS = {
    "private_key_path": "privateKeyPath",
    "created_at": "createdAt",
    "auth_method": "authMethod",
    "privateKey": "private_key",
}
_TEXT_FIELDS = ("privateKeyPath",)
# Shown as they are: a list or an object here is a blank page.
_SCALAR_FIELDS = (
    "name",
    "authMethod",
    "createdAt",
    "serverId",
    "condaEnv",
    "remoteRoot",
    "localPort",
    "remotePort",
)
_SERVER_FIELDS = (
    "host",
    "port",
    "username",
    "authMethod",
    "privateKeyPath",
    *SECRET_FIELDS,
    *FLAGS.values(),
)
_MAX_TEXT = 1024
_MAX_DEPTH = 100


@dataclass(frozen=True)
class Arranged:
    """The items of a file: `shown` entries (normalised, secrets as stored), and the rest as it stands."""

    hidden: list[Any] = field(default_factory=list)
    _shown: dict[Key, Entry] = field(default_factory=dict)

    @property
    def shown(self) -> list[Entry]:
        return list(self._shown.values())

    def get(self, key: Key) -> Entry | None:
        return self._shown.get(key)

    def show(self, entry: Entry) -> None:
        self._shown[key_of(entry)] = entry


def arrange(items: Sequence[Any]) -> Arranged:
    """Tell the entries we show from the rest.

    Entries of the older form, without `kind`, become a server and a profile.
    """
    found = Arranged()
    older = []
    for item in items:
        entry = normalised(item) if isinstance(item, dict) else {}
        if _is_older_form(entry):
            older.append(item)
        elif fault(entry) or found.get(key_of(entry)):
            found.hidden.append(item)
        else:
            found.show(entry)
    for item in older:
        _add_older_form(item, found)
    return found


def normalised(entry: Entry) -> Entry:
    """A copy in one spelling, with the port of a server as a number."""
    result = {}
    for name, value in entry.items():
        usual = _SPELLINGS.get(name, name)
        if usual == name or usual not in entry:
            result[usual] = value
    if result.get("kind") == "server":
        port = result.get("port")
        result["port"] = DEFAULT_PORT if port is None else (_port(port) or port)
    return result


def fault(entry: Entry) -> str | None:
    """Why a normalised entry cannot be used, as the end of a sentence; None if it can."""
    return next(_faults(entry), None)


def key_of(entry: Entry) -> Key:
    """What tells entries without faults apart: kind and id."""
    return entry["kind"], entry["id"]


def is_same_account(entry: Entry, other: Entry) -> bool:
    """Whether both are servers and log in to the same account: host, port and user name."""
    names = ("kind", "host", "port", "username")
    return entry["kind"] == "server" and all(entry[name] == other.get(name) for name in names)


def server_id(entry: Entry) -> str:
    """The id the frontend gives to a server of this host, port and user name."""
    username, host = (re.sub("[^A-Za-z0-9]", "_", entry[name]) for name in ("username", "host"))
    return f"srv_{username}_{host}_{entry['port']}"


def account_name(entry: Entry) -> str:
    """What a server is called that has no name."""
    return f"{entry['username']}@{entry['host']}:{entry['port']}"


def from_json(text: str) -> Any:
    """Parse JSON; numbers that JSON does not have (NaN, infinities) become null."""
    return json.loads(text, parse_constant=lambda name: None, parse_float=_finite)


def to_json(items: list[Any]) -> bytes:
    """The file as Runicorn writes it: indented, readable, UTF-8. Raises ValueError and RecursionError."""
    try:
        return json.dumps(items, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(items, indent=2, allow_nan=False).encode("ascii")


def _faults(entry: Entry) -> Iterator[str]:
    kind = entry.get("kind")
    if kind not in KINDS:
        yield 'its kind is neither "server" nor "connection"'
        return
    for name in ("id", "host", "username") if kind == "server" else ("id",):
        yield from _text_faults(name, entry.get(name))
    if kind == "server" and _port(entry["port"]) is None:
        yield "port is not a number from 1 to 65535"
    for name in (*SECRET_FIELDS, *_TEXT_FIELDS):
        if not isinstance(entry.get(name), (str, type(None))):
            yield f"{name} is neither text nor null"
    for name in _SCALAR_FIELDS:
        if isinstance(entry.get(name), (list, dict)):
            yield f"{name} is neither text nor a number"
    if _is_deeper_than(entry, _MAX_DEPTH):
        yield f"it is nested more than {_MAX_DEPTH} levels deep"
        return
    try:
        json.dumps(entry, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError:
        yield "it holds text that is not valid Unicode"
    except ValueError:
        yield "it holds a number that JSON does not have"


def _text_faults(name: str, value: Any) -> Iterator[str]:
    if value is None or value == "":
        yield f"{name} is missing"
    elif not isinstance(value, str):
        yield f"{name} is not text"
    elif not value.strip():
        yield f"{name} is blank"
    elif len(value) > _MAX_TEXT:
        yield f"{name} is longer than {_MAX_TEXT} characters"
    elif any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        yield f"{name} has control characters"


def _port(value: Any) -> int | None:
    """The number of a port given as a number or in digits; None for anything else."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    return None


def _is_deeper_than(value: Any, levels: int) -> bool:
    """Level by level, because a value deep enough would exhaust the stack of a recursive search."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _is_older_form(entry: Entry) -> bool:
    texts = (entry.get("id"), entry.get("host"), entry.get("username"))
    return entry.get("kind") is None and all(isinstance(text, str) and text for text in texts)


def _add_older_form(item: Entry, found: Arranged) -> None:
    """Split an entry that was server and profile in one; a known server of the account is completed."""
    entry = normalised(item)
    account = {name: entry[name] for name in _SERVER_FIELDS if name in entry}
    server = normalised({"kind": "server", "id": "", "name": "", "authMethod": "password", **account})
    created_at = entry.get("createdAt") or 0
    server.update(id=server_id(server), name=account_name(server), createdAt=created_at)
    known = next((other for other in found.shown if is_same_account(other, server)), None)
    profile = {name: value for name, value in entry.items() if name not in _SERVER_FIELDS}
    profile.update(
        kind="connection",
        serverId=(known or server)["id"],
        name=entry.get("name") or f"{entry['username']}@{entry['host']}",
        createdAt=created_at,
    )
    taken = found.get(key_of(profile)) or (not known and found.get(key_of(server)))
    if taken or fault(server) or fault(profile):
        found.hidden.append(item)
        return
    if known:
        known.update({name: value for name, value in server.items() if known.get(name) is None})
    else:
        found.show(server)
    found.show(profile)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
