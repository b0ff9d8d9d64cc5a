"""Algorithms that are not offered unless the operator wants them, and what a host lacks of the others.

Weak are SHA-1 in signatures and key exchanges (RFC 8332, RFC 9142), DSA, ciphers in CBC mode, 3DES
and RC4 (RFC 8758), MACs with MD5 or SHA-1, and RSA keys below 2048 bits (RFC 8332, 3.1; NIST SP
800-131A). OpenSSH 8.8 and later offer next to none of them either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paramiko.ssh_exception import IncompatiblePeer

SMALLEST_RSA_KEY = 2048  # bits

_WEAK_SIGNATURES = ("ssh-rsa", "ssh-dss")
# By the names of paramiko's `disabled_algorithms`.
WEAK: Mapping[str, Sequence[str]] = {
    "kex": (
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ),
    "keys": _WEAK_SIGNATURES,
    "pubkeys": _WEAK_SIGNATURES,
    "ciphers": (
        "aes128-cbc",
        "aes192-cbc",
        "aes256-cbc",
        "3des-cbc",
        "blowfish-cbc",
        "arcfour",
        "arcfour128",
        "arcfour256",
    ),
    "macs": ("hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96"),
}

# paramiko's names for what each side offers, ours, and what to call it.
_OFFERS = (
    ("kex_algo_list", "kex", "key exchange"),
    ("server_key_algo_list", "keys", "host key"),
    ("server_encrypt_algo_list", "ciphers", "cipher"),
    ("server_mac_algo_list", "macs", "MAC"),
)
_NAME = re.compile(r"[A-Za-z0-9@._+-]{1,64}")
_NO_ALGORITHMS = ("ext-info-", "kex-strict-")
_MOST_NAMES = 10


@dataclass(frozen=True)
class Lack:
    """One kind of algorithm of which a host and we have none in common.

    `weak_would_do`: the host offers one that is only switched off here.
    """

    kind: str
    offered: tuple[str, ...]
    weak_would_do: bool

    def __str__(self) -> str:
        return f"{self.kind}: {', '.join(self.offered) or 'none'}"


class NothingInCommon(IncompatiblePeer):
    """A key exchange that cannot begin, and for want of what."""

    def __init__(self, lacks: Sequence[Lack]) -> None:
        super().__init__("; ".join(map(str, lacks)))
        self.lacks = tuple(lacks)


def lacks(transport: Any, offer: Mapping[str, Sequence[str]]) -> list[Lack]:
    """Compare a host's KEXINIT, as paramiko parses it, with what `transport` offers."""
    found = []
    for theirs, ours, kind in _OFFERS:
        offered = offer[theirs]
        if not set(offered) & set(getattr(transport, f"preferred_{ours}")):
            known = set(getattr(transport, f"_preferred_{ours}"))
            found.append(Lack(kind, _shown(offered), bool(set(offered) & known)))
    return found


def _shown(offered: Sequence[str]) -> tuple[str, ...]:
    """Names that a host sent, short and harmless to show."""
    names = [name for name in offered if _NAME.fullmatch(name) and not name.startswith(_NO_ALGORITHMS)]
    return (*names[:_MOST_NAMES], *(["…"] if len(names) > _MOST_NAMES else []))
