"""OpenSSH's known_hosts format: read it, and say whether a host's key is to be trusted.

What matches is what sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT", says and what ssh does: comma-separated
patterns with `*`, `?` and `!`, `[host]:port` for ports other than 22, hashed names, the markers
`@revoked` and `@cert-authority`. A line that cannot be understood matters to no host, and no line
is ever lost: each keeps its original text.

Everything here is plain computation on values that do not change; any thread may call it.
`known_hosts_match` compares names, `known_hosts_edit` changes texts, `known_hosts_file` reads and
writes the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from runicorn_remote.ssh.known_hosts_match import hosts_match, is_hashed, known_hosts_name

REVOKED = "@revoked"
CERT_AUTHORITY = "@cert-authority"

_LINE = re.compile(
    r"[ \t]*"
    r"(?:(?P<marker>@[^ \t]*)[ \t]+)?"
    r"(?P<hosts>[^ \t@#][^ \t]*)[ \t]+"
    r"(?P<type>[^ \t]+)[ \t]+"
    r"(?P<data>[^ \t]+)"
    r"(?:[ \t].*)?",
    re.DOTALL,
)
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class HostKey:
    """A public key: its `blob` is the wire form, which names the type by itself.

    `type` is the key's (`ssh-rsa`), never a signature algorithm (`rsa-sha2-512`).
    """

    type: str = field(compare=False)
    blob: bytes

    @classmethod
    def of(cls, key_type: str, key_base64: str) -> HostKey:
        """From the two words of a key line. Raises `ValueError` with what is wrong with them."""
        try:
            blob = base64.b64decode(key_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("the key is not valid base64") from error
        # Python lets odd last bits pass; ssh does not, and there is one way to write a key.
        if base64.b64encode(blob).decode("ascii") != key_base64:
            raise ValueError("the key is not valid base64")
        fields = _wire_strings(blob)
        if fields is None or len(fields) < 2:
            raise ValueError("the base64 text does not hold a key")
        if fields[0] != key_type.encode("utf-8", "surrogatepass"):
            raise ValueError("the key is of another type than it says")
        return cls(key_type, blob)

    @property
    def base64(self) -> str:
        return base64.b64encode(self.blob).decode("ascii")

    @property
    def fingerprint_sha256(self) -> str:
        """As `ssh-keygen -l` prints it: `SHA256:` and unpadded base64."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    def __str__(self) -> str:
        """`type base64`."""
        return f"{self.type} {self.base64}"


@dataclass(frozen=True)
class Verdict:
    """What the stored keys say about an offered one.

    `expected` is set for `changed`: the key a person once confirmed.
    """

    kind: Literal["trusted", "unknown", "changed", "revoked"]
    expected: HostKey | None = None


@dataclass(frozen=True)
class HostEntries:
    """All that is stored for one host and port, each in file order."""

    trusted: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()
    authorities: tuple[HostKey, ...] = ()  # of host certificates; never trusted as plain keys

    @property
    def stored_types(self) -> tuple[str, ...]:
        """Key types to ask the host for first, without those of which only revoked keys are stored."""
        return tuple(dict.fromkeys(key.type for key in self.trusted if key not in self.revoked))

    def judge(self, offered: HostKey) -> Verdict:
        if offered in self.revoked:
            return Verdict("revoked")
        if offered in self.trusted:
            return Verdict("trusted")
        if not self.trusted:
            return Verdict("unknown")
        # A new type beside a stored one counts as changed: an attacker would offer just that.
        same_type = (key for key in self.trusted if key.type == offered.type)
        return Verdict("changed", next(same_type, self.trusted[0]))


@dataclass(frozen=True)
class Entry:
    """A line that says something about a key. `marker` is empty for a key that is simply trusted."""

    marker: str
    hosts: str
    key: HostKey

    @property
    def hashed(self) -> bool:
        return is_hashed(self.hosts)

    @property
    def patterns(self) -> list[str]:
        """The names of the line as they are written; a hashed line has one."""
        return [self.hosts] if self.hashed else self.hosts.split(",")

    def matches(self, name: str) -> bool:
        """Whether the line is about the host `name`, which is what `known_hosts_name` returned."""
        return hosts_match(name, self.hosts)


@dataclass(frozen=True)
class Line:
    """One line of the file. `raw` is its text to the letter, its end included."""

    raw: str

    @cached_property
    def entry(self) -> Entry | None:
        """None for comments, blank lines, unknown markers and everything broken."""
        match = self.match
        if match is None or (match["marker"] or "") not in ("", REVOKED, CERT_AUTHORITY):
            return None
        try:
            key = HostKey.of(match["type"], match["data"])
        except ValueError:
            return None
        return Entry(match["marker"] or "", match["hosts"], key)

    @cached_property
    def match(self) -> re.Match[str] | None:
        """Where the words of the line stand in `raw`."""
        # Windows editors end lines with CR LF, and to ssh a NUL is the end of the line.
        return _LINE.fullmatch(self.raw.split("\0", 1)[0].rstrip("\r\n"))

    def replacing(self, word: Literal["hosts", "data"], text: str) -> str:
        """The raw line with one word replaced, the rest untouched."""
        if self.match is None:
            raise ValueError("the line has no words")
        start, end = self.match.span(word)
        return self.raw[:start] + text + self.raw[end:]


@dataclass(frozen=True)
class KnownHostsText:
    """The content of a known_hosts file."""

    text: str

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        # Not splitlines(): it also breaks at form feeds and at characters beyond ASCII.
        return tuple(Line(raw) for raw in _LINES.findall(self.text))

    def lookup(self, host: str, port: int) -> HostEntries:
        """What is stored for this host. `host` in any case, an IPv6 address without brackets."""
        name = known_hosts_name(host, port)
        entries = [line.entry for line in self.lines if line.entry and line.entry.matches(name)]
        return HostEntries(
            trusted=tuple(entry.key for entry in entries if not entry.marker),
            revoked=tuple(entry.key for entry in entries if entry.marker == REVOKED),
            authorities=tuple(entry.key for entry in entries if entry.marker == CERT_AUTHORITY),
        )


def _wire_strings(blob: bytes) -> list[bytes] | None:
    """The strings a public key's wire form consists of (RFC 4251, 5); None if it does not."""
    fields = []
    at = 0
    while at < len(blob):
        start = at + 4
        at = start + int.from_bytes(blob[at:start], "big")
        if at > len(blob) or start > len(blob):
            return None
        fields.append(blob[start:at])
    return fields
