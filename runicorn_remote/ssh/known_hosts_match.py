"""How known_hosts names a host, and when such a name, pattern or hash is about it.

Plain computation; any thread may call it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import string

from runicorn_remote.errors import InvalidValue

SSH_PORT = 22

_HASH_MAGIC = "|1|"
# ssh gives up on a whole line when one of its patterns is longer.
_LONGEST_PATTERN = 1022
_MAX_HOST = 255
# Only ASCII letters have two cases in a host name: str.lower() would also turn a Kelvin sign into a k.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def known_hosts_name(host: str, port: int) -> str:
    """How the file names a host: `host` on port 22, else `[host]:port`."""
    return host if port == SSH_PORT else f"[{host}]:{port}"


def exact_name(host: str, port: int) -> str:
    """`known_hosts_name` of a host that is to be written: one that can match nothing but itself.

    Raises `InvalidValue` for whatever would end the word, list several hosts or act as a pattern,
    marker, comment or hash.
    """
    if not host:
        raise InvalidValue("Invalid host: it is empty")
    if len(host) > _MAX_HOST:
        raise InvalidValue(f"Invalid host: it is longer than {_MAX_HOST} characters")
    if any(character.isspace() for character in host):
        raise InvalidValue("Invalid host: it has white space")
    if "," in host:
        raise InvalidValue("Invalid host: it has a comma; give one host")
    if not (host.isascii() and host.isprintable()):
        raise InvalidValue("Invalid host: it has characters that no host name has")
    if any(character in "*?!@#|[]" for character in host):
        raise InvalidValue("Invalid host: it has one of * ? ! @ # | [ ]; give the name of one host")
    return known_hosts_name(host, port)


def lowered(name: str) -> str:
    """A name as it is compared and hashed."""
    return name.translate(_LOWER)


def hosts_match(name: str, hosts: str) -> bool:
    """Whether the host names of a line, `hosts`, are about `name`, which `known_hosts_name` returned."""
    name = lowered(name)
    if is_hashed(hosts):
        return _hash_matches(name, hosts)
    found = False
    for pattern in hosts.split(","):
        negated = pattern.startswith("!")
        pattern = pattern[1:] if negated else pattern
        if len(pattern) > _LONGEST_PATTERN:
            return False
        if _pattern_matches(name, lowered(pattern)):
            if negated:
                return False
            found = True
    return found


def is_hashed(hosts: str) -> bool:
    """Whether a line hides its host. A hashed line has one name."""
    return hosts.startswith("|")


def _hash_matches(name: str, hashed: str) -> bool:
    """Whether `|1|salt|hash` is the HMAC-SHA1 of `name`."""
    salt_base64 = hashed[len(_HASH_MAGIC) :].partition("|")[0]
    try:
        salt = base64.b64decode(salt_base64, validate=True)
    except (binascii.Error, ValueError):
        return False
    if not hashed.startswith(_HASH_MAGIC) or len(salt) != hashlib.sha1(usedforsecurity=False).digest_size:
        return False
    digest = hmac.new(salt, name.encode("utf-8", "surrogatepass"), "sha1").digest()
    expected = f"{_HASH_MAGIC}{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    return hashed == expected


def _pattern_matches(name: str, pattern: str) -> bool:
    """`*` is any run of characters, `?` any single one, brackets are themselves.

    On a mismatch only the last `*` takes one character more: the time is bounded by the product of
    the lengths, however many `*` there are.
    """
    at = in_pattern = 0
    star = after_star = -1
    while at < len(name):
        wanted = pattern[in_pattern : in_pattern + 1]
        if wanted == "*":
            in_pattern += 1
            star, after_star = in_pattern, at
        elif wanted and wanted in ("?", name[at]):
            at += 1
            in_pattern += 1
        elif star >= 0:
            after_star += 1
            at, in_pattern = after_star, star
        else:
            return False
    return not pattern[in_pattern:].strip("*")
