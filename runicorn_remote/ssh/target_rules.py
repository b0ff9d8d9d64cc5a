"""Which hosts may be logged in to: names as they are asked for, addresses as they are dialled.

A name is what a caller wrote; where it leads is up to whoever answers for it, and to the moment. So
nets are compared with the very address that is then connected to, never with one looked up before.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from runicorn_remote.errors import TargetForbidden

Address = IPv4Address | IPv6Address

_NAME_PATTERN = re.compile(r"[a-z0-9_.*?-]+")
# 10.*: it looks like a net, and as a name it would match 10.example.org.
_LIKE_AN_ADDRESS = re.compile(r"[0-9.*?]*[0-9][0-9.*?]*")
_ANY = "*"
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: a gateway carries these to the IPv4 address within


class TargetRules:
    """Immutable; any thread may call it.

    `allowed` and `denied` hold addresses, nets (`10.0.0.0/8`, `fd00::/8`) and patterns of host names
    with `*` and `?`; `*` alone is everything. Without `allowed` all that is not denied may be
    reached. What is denied is refused even if it is allowed too. Raises `ValueError`.
    """

    def __init__(self, allowed: Iterable[str] = (), denied: Iterable[str] = ()) -> None:
        self._allowed = _Rules(allowed)
        self._denied = _Rules(denied)

    def check_host(self, host: str, *, looked_up_elsewhere: bool = False) -> None:
        """Whether `host`, a name or an address as it was asked for, may be dialled at all.

        Before anything is looked up. With `looked_up_elsewhere` it is all that can be said, as for a
        host behind a jump host: nets that are denied are then compared with addresses only, and nets
        that are allowed let no name pass. Raises `TargetForbidden`.
        """
        address = _literal(host)
        if address is not None:
            passes = self.permits(host, address)
        else:
            unknown = self._allowed.has_nets and not looked_up_elsewhere
            passes = not self._denied.matches_name(host) and (
                not self._allowed or self._allowed.matches_name(host) or unknown
            )
        if not passes:
            raise forbidden(host)

    def permits(self, host: str, address: str) -> bool:
        """Whether `host` may be dialled at `address`, an IP address with or without a zone."""
        faces = list(_faces(ip_address(address.partition("%")[0])))
        if self._denied.matches_name(host) or any(map(self._denied.holds, faces)):
            return False
        return not self._allowed or self._allowed.matches_name(host) or self._allowed.holds(faces[0])


class _Rules:
    """One of the two lists."""

    def __init__(self, rules: Iterable[str]) -> None:
        self._nets: list[IPv4Network | IPv6Network] = []
        self._patterns: list[str] = []
        for rule in rules:
            pattern = _plain(rule)
            try:
                self._nets.append(_net(rule))
            except ValueError:
                if pattern != _ANY and (
                    not _NAME_PATTERN.fullmatch(pattern) or _LIKE_AN_ADDRESS.fullmatch(pattern)
                ):
                    raise ValueError(
                        f"{rule!r} is not a host name, an address or a net like 10.0.0.0/8"
                    ) from None
                self._patterns.append(pattern)

    def __bool__(self) -> bool:
        return bool(self._nets or self._patterns)

    @property
    def has_nets(self) -> bool:
        return bool(self._nets)

    def matches_name(self, host: str) -> bool:
        """Patterns are about names; an address is matched by `*` only."""
        if _ANY in self._patterns:
            return True
        return (
            bool(self._patterns)
            and _literal(host) is None
            and any(fnmatchcase(_plain(host), pattern) for pattern in self._patterns)
        )

    def holds(self, address: Address) -> bool:
        return any(address in net for net in self._nets)


def forbidden(host: str) -> TargetForbidden:
    return TargetForbidden(
        f"This server does not connect to {host}",
        hint="Whoever runs it has limited the hosts: the settings allowed_targets and denied_targets.",
    )


def _net(rule: str) -> IPv4Network | IPv6Network:
    """An address is a net of one. Raises `ValueError`."""
    net = ip_network(rule.strip("[]"), strict=False)
    if isinstance(net, IPv6Network) and net.network_address.ipv4_mapped and net.prefixlen >= 96:
        return IPv4Network((int(net.network_address.ipv4_mapped), net.prefixlen - 96))
    return net


def _plain(name: str) -> str:
    """A host name as it is compared."""
    return name.rstrip(".").lower()


def _literal(host: str) -> str | None:
    """The address that `host` is by itself, in whichever spelling (127.1, 0x7f000001); asks nobody."""
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


def _faces(address: Address) -> Iterator[Address]:
    """The address that is reached by dialling `address`, then others that lead there."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield from _faces(address.ipv4_mapped)
            yield address
            return
        if address.is_unspecified:  # dialled, these two mean this machine
            yield IPv6Address("::1")
        yield address
        if address in _NAT64:
            yield IPv4Address(address.packed[-4:])
        if address.sixtofour is not None:
            yield address.sixtofour
        return
    if address.is_unspecified:
        yield IPv4Address("127.0.0.1")
    yield address
