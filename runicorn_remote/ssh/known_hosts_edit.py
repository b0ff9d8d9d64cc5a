"""Changes to a known_hosts text: one host's name and key at a time, everything else to the letter.

Only lines of plain trust are edited. What a `@revoked` or `@cert-authority` line or a wildcard says
is meant for more than one host, and confirming or forgetting one host's key does not change it.
"""

from __future__ import annotations

from dataclasses import dataclass

from runicorn_remote.errors import InvalidValue
from runicorn_remote.ssh.known_hosts import Entry, HostKey, KnownHostsText
from runicorn_remote.ssh.known_hosts_match import SSH_PORT, exact_name, known_hosts_name, lowered


@dataclass(frozen=True)
class ListedKey:
    """One name of one plain line, in a form that `removed` takes back.

    `known_hosts_host` is the name as written. A name that is no plain host and port (a hash) stands
    in `host` as a whole, with port 22.
    """

    host: str
    port: int
    known_hosts_host: str
    key: HostKey


def listed(document: KnownHostsText) -> list[ListedKey]:
    """Every name of every line of plain trust, in file order. An exclusion (`!name`) is not a name."""
    keys = []
    for line in document.lines:
        entry = line.entry
        if entry is not None and not entry.marker:
            for pattern in filter(_is_name, entry.patterns):
                host, port = _host_and_port(_shown(pattern))
                keys.append(ListedKey(host, port, _shown(pattern), entry.key))
    return keys


def accepted(document: KnownHostsText, host: str, port: int, key: HostKey) -> str:
    """The text in which `key` is this host's one key of its type.

    A line that is about this host alone gets the new key in place, so that its hash and its comment
    survive; a line about several hosts loses this one's name; without either the key is appended.
    Keys of other types stay. Raises `InvalidValue` for a host that is not exactly one, and for a key
    that is revoked for it.
    """
    name = exact_name(host, port)
    if key in document.lookup(host, port).revoked:
        raise InvalidValue(
            "Invalid public_key: this key is marked @revoked for this host", code="HOST_KEY_REVOKED"
        )
    stored = any(line.entry and line.entry.key == key and _names(line.entry, name) for line in document.lines)
    texts = []
    for line in document.lines:
        entry = line.entry
        if entry is None or not _names(entry, name) or entry.key.type != key.type or entry.key == key:
            texts.append(line.raw)
            continue
        others = _without(entry, name)
        if others:
            texts.append(line.replacing("hosts", others))
        elif not stored:
            texts.append(line.replacing("data", key.base64))
            stored = True
    text = "".join(texts)
    if stored:
        return text
    separator = "\n" if text and not text.endswith("\n") else ""
    return f"{text}{separator}{name} {key}\n"


def removed(document: KnownHostsText, host: str, port: int, key_type: str) -> str:
    """The text in which no plain line names this host with a key of this type.

    Hashed lines that match the host go too. `host` may also be the literal text of a name as `listed`
    shows it: a hash, or a wildcard pattern, which goes as that pattern only.
    """
    name = known_hosts_name(host, port)
    texts = []
    for line in document.lines:
        entry = line.entry
        if entry is None or entry.marker or entry.key.type != key_type:
            texts.append(line.raw)
        elif entry.hashed:
            if not (entry.matches(name) or _shown(entry.hosts) == name):
                texts.append(line.raw)
        elif any(_is_literally(pattern, name) for pattern in entry.patterns):
            others = _without(entry, name)
            if others:
                texts.append(line.replacing("hosts", others))
        else:
            texts.append(line.raw)
    return "".join(texts)


def _names(entry: Entry, name: str) -> bool:
    """Whether a plain line trusts this host by its very name or its hash, not by a wildcard."""
    if entry.marker or not entry.matches(name):
        return False
    return entry.hashed or any(_is_literally(pattern, name) for pattern in entry.patterns)


def _without(entry: Entry, name: str) -> str:
    """The other names of the line; empty when only exclusions, which alone match no host, would be left."""
    others = [pattern for pattern in entry.patterns if not _is_literally(pattern, name)]
    return ",".join(others) if not entry.hashed and any(map(_is_name, others)) else ""


def _is_name(pattern: str) -> bool:
    return pattern != "" and not pattern.startswith("!")


def _is_literally(pattern: str, name: str) -> bool:
    return _is_name(pattern) and lowered(_shown(pattern)) == lowered(name)


def _host_and_port(name: str) -> tuple[str, int]:
    """What `known_hosts_name` made this name of; a name it cannot have made is a host by itself."""
    host, bracket, port = name[1:].rpartition("]:")
    if name.startswith("[") and bracket and port.isascii() and port.isdigit() and len(port) <= 5:
        number = int(port)
        if 1 <= number <= 65535 and known_hosts_name(host, number) == name:
            return host, number
    return name, SSH_PORT


def _shown(pattern: str) -> str:
    """A name that is valid Unicode: bytes that are not UTF-8 are written as \\xNN."""
    return pattern.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
