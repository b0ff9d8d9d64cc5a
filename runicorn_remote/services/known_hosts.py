"""The host keys people confirmed: accept one, list them, forget one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.errors import InvalidValue
from runicorn_remote.services.seen_host_keys import SeenHostKeys
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.known_hosts_match import exact_name


class KnownHosts:
    """May be called from any thread. Every method raises `StateError` when the file cannot be used.

    `file` is what the SSH layer judges keys with; it reads the file anew each time, so an accepted
    key counts at once. `seen` has the keys that may be accepted.
    """

    def __init__(self, path: Path, clock: Clock, lock_timeout: float = 10.0) -> None:
        self.file = KnownHostsFile(path, lock_timeout)
        self.seen = SeenHostKeys(clock)

    def accept(self, host: str, port: int, key_type: str, public_key: str, fingerprint_sha256: str) -> None:
        """Trust this key, which a handshake has just shown, in place of the host's others of that type.

        A key that is trusted already stays as it is: two pages may ask about the same. `public_key`
        is `type base64`; a comment behind it is ignored. The type and the fingerprint are what the
        person was shown and have to be those of the key. Raises `InvalidValue`, `HostKeyNotSeen`.
        """
        host = _without_brackets(host)
        exact_name(host, port)
        _check_word("key_type", key_type)
        _check_word("fingerprint_sha256", fingerprint_sha256)
        key = _parse_public_key(public_key)
        if key.type != key_type:
            raise InvalidValue("key_type does not match public_key")
        if key.fingerprint_sha256 != fingerprint_sha256:
            raise InvalidValue("fingerprint_sha256 does not match public_key")
        self.file.accept(host, port, key, partial(self.seen.check, host, port, key))
        self.seen.forget(host, port, key)

    def list(self) -> list[dict[str, Any]]:
        """One dict for each name of each plain line, in file order.

        `{"host", "port", "known_hosts_host", "key_type", "key_base64", "fingerprint_sha256"}`; a
        hashed name stands in `host` as it is, with port 22.
        """
        return [
            {
                "host": item.host,
                "port": item.port,
                "known_hosts_host": item.known_hosts_host,
                "key_type": item.key.type,
                "key_base64": item.key.base64,
                "fingerprint_sha256": item.key.fingerprint_sha256,
            }
            for item in self.file.list()
        ]

    def remove(self, host: str, port: int, key_type: str) -> bool:
        """Forget a host's keys of one type. Returns whether there were any.

        `host` may be any that `list` shows. Raises `InvalidValue` if `host` or `key_type` is empty.
        """
        if not host:
            raise InvalidValue("Invalid host: it is empty")
        if not key_type:
            raise InvalidValue("Invalid key_type: it is empty")
        return self.file.remove(_without_brackets(host), port, key_type)


def _parse_public_key(public_key: str) -> HostKey:
    if "\n" in public_key or "\r" in public_key:
        raise InvalidValue("Invalid public_key: it has more than one line")
    words = public_key.split()
    if len(words) < 2:
        raise InvalidValue("Invalid public_key: it is not a key type and base64")
    try:
        return HostKey.of(words[0], words[1])
    except ValueError as error:
        raise InvalidValue(f"Invalid public_key: {error}") from error


def _check_word(name: str, value: str) -> None:
    if not value:
        raise InvalidValue(f"Invalid {name}: it is empty")
    if any(character.isspace() for character in value):
        raise InvalidValue(f"Invalid {name}: it has white space")


def _without_brackets(host: str) -> str:
    """An IPv6 address may be given as it stands in a URL."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
