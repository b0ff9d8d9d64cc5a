"""A host key somebody has to decide on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HostKey:
    """The key the host showed, as the API's 409 describes it.

    Compare `fingerprint_sha256` with what the host's administrator says, or with
    `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host. With `reason` "changed" another key
    is stored for this host, the `expected_*`: the host was set up anew, or somebody is in between.
    """

    host: str
    port: int
    key_type: str  # "ssh-ed25519"
    fingerprint_sha256: str  # "SHA256:…"
    public_key: str  # "ssh-ed25519 AAAA…"
    known_hosts_host: str = ""  # "host", or "[host]:2222"
    reason: str = "unknown"  # or "changed"
    expected_fingerprint_sha256: str | None = None
    expected_public_key: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HostKey:
        """From the `host_key` of a 409. Raises `ValueError` if something is missing."""
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            key = cls(**{name: values[name] for name in names if name in values})
        except TypeError as error:
            raise ValueError("this does not describe a host key") from error
        if not (isinstance(key.port, int) and all(isinstance(getattr(key, name), str) for name in _TEXTS)):
            raise ValueError("this does not describe a host key")
        return key

    @property
    def changed(self) -> bool:
        """Whether another key is stored for this host."""
        return self.reason == "changed"

    def __str__(self) -> str:
        return f"{self.key_type} {self.fingerprint_sha256} of {self.host} port {self.port} ({self.reason})"


_TEXTS = ("host", "key_type", "fingerprint_sha256", "public_key", "reason")

# Called with the key; True accepts it for good and repeats the request.
OnHostKey = Callable[[HostKey], bool]
