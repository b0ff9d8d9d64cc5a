"""Who logs in where, and with what: the keys of the connection pool."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from runicorn_remote.errors import InvalidConnectionId, InvalidValue

# Host names, addresses, ssh_config aliases; a zone for link-local IPv6 (fe80::1%eth0).
_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?"
)
_MAX_NAME = 255

# Identities are compared, never stored: the key of the hash lives and dies with the process.
_IDENTITY_KEY = secrets.token_bytes(32)


@dataclass(frozen=True)
class Target:
    """One account on one host. Immutable and hashable."""

    host: str
    port: int
    username: str

    @classmethod
    def of(cls, host: str, port: int, username: str) -> Target:
        """Validate what a user gave. Raises `InvalidValue` with a sentence for a person.

        An IPv6 address may be given with brackets (`[::1]`); they are taken off.
        """
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host:
            raise InvalidValue("Invalid host: it is empty")
        if len(host) > _MAX_NAME or not _HOST.fullmatch(host):
            raise InvalidValue("Invalid host: give a host name or an address, without user, port or spaces")
        if not 1 <= port <= 65535:
            raise InvalidValue("Invalid port: a port is a number from 1 to 65535")
        if not username:
            raise InvalidValue("Invalid username: it is empty")
        if len(username) > _MAX_NAME or username.startswith("-") or not _is_plain(username):
            raise InvalidValue(
                "Invalid username: it has control characters or spaces, starts with '-' or is too long"
            )
        return cls(host, port, username)

    @classmethod
    def parse(cls, connection_id: str) -> Target:
        """Read `user@host:port`: the port behind the last `:`, the user before the last `@`.

        An IPv6 host may stand without its brackets: the frontend puts ids together from a form.
        Raises `InvalidConnectionId`.
        """
        left, colon, port = connection_id.rpartition(":")
        username, at, host = left.rpartition("@")
        if not (colon and at and port.isascii() and port.isdigit() and len(port) <= 5):
            raise InvalidConnectionId(_shown(connection_id))
        try:
            return cls.of(host, int(port), username)
        except InvalidValue as error:
            raise InvalidConnectionId(_shown(connection_id)) from error

    @property
    def connection_id(self) -> str:
        """`user@host:port`; an IPv6 host in brackets."""
        return f"{self.username}@{self.bracketed_host}:{self.port}"

    @property
    def bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return self.connection_id


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a caller gave to prove who they are. Never logged; an absent secret is None."""

    password: str | None = None
    private_key: str | None = None
    private_key_path: str | None = None
    passphrase: str | None = None
    use_agent: bool = True
    identity: str = field(init=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", self._identity())

    @property
    def explicit(self) -> bool:
        """Whether anything beyond the agent was given."""
        return any((self.password, self.private_key, self.private_key_path))

    @property
    def has_secret(self) -> bool:
        """Whether these cannot be had again without asking: unlike a path or the agent."""
        return any((self.password, self.private_key, self.passphrase))

    def _identity(self) -> str:
        """The same for the same credentials, within this process only, and nothing can be read from it."""
        digest = hmac.new(_IDENTITY_KEY, digestmod=hashlib.sha256)
        for value in (self.password, self.private_key, self.private_key_path, self.passphrase):
            encoded = b"-" if value is None else b"+" + value.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        digest.update(b"agent" if self.use_agent else b"")
        return digest.hexdigest()

    def __repr__(self) -> str:
        return "Credentials(…)"


def is_shell_safe(username: str) -> bool:
    """Whether a user name may stand in a command line: the same names that ssh 9.6 and later let pass."""
    return not any(character in "'`\"$\\;&<>|(){}" for character in username)


def _is_plain(text: str) -> bool:
    return text.isprintable() and not any(character.isspace() for character in text)


def _shown(text: str) -> str:
    """A client's own string, short and printable, to show back to it."""
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= 100 else shown[:100] + "…"
