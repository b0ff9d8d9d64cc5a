"""What a private key asks of whoever decrypts it, looked at before anybody does.

A key says itself how often its passphrase is to be hashed. It may ask for hours of that, or for all
the memory there is, and with PKCS#8 no other thread of this process runs meanwhile.
"""

from __future__ import annotations

import math
import re
import struct
from base64 import b64decode
from binascii import a2b_base64
from collections.abc import Iterator

from runicorn_remote.errors import KeyUnusable

# ssh-keygen's default is 24 and its -a rarely above a few hundred; each round costs about 10 ms.
_MAX_BCRYPT_ROUNDS = 2000
# OpenSSL's default is 2048; two million take half a second.
_MAX_PBKDF2_ROUNDS = 2_000_000
# The product of scrypt's three numbers, of which each costs 128 bytes. OpenSSL's default is 16384 * 8 * 1.
_MAX_SCRYPT_COST = 2**20

_BLOCK = re.compile(rb"-----BEGIN (OPENSSH|ENCRYPTED) PRIVATE KEY-----(.*?)-----END ", re.S)
_OPENSSH_MAGIC = b"openssh-key-v1\0"
_INTEGER, _OBJECT_ID, _SEQUENCE = 0x02, 0x06, 0x30
_SCRYPT = bytes.fromhex("2b06010401da47040b")


def refuse_endless(data: bytes) -> None:
    """Raises `KeyUnusable` for a key whose decryption would cost more than any tool makes it cost.

    Raises `ValueError` for one that cannot be read.
    """
    for block in _BLOCK.finditer(data):
        try:
            if block[1] == b"OPENSSH":
                _check_openssh(a2b_base64(block[2]))
            else:
                _check_pkcs8(b64decode(b"".join(block[2].split()), validate=True))
        except (IndexError, StopIteration, RecursionError, struct.error) as error:
            raise ValueError("the private key is broken") from error


def _check_openssh(blob: bytes) -> None:
    """PROTOCOL.key of OpenSSH: magic, cipher, name of the kdf, its options (salt, rounds)."""
    position = len(_OPENSSH_MAGIC)
    for _ in ("cipher", "kdf"):
        position += 4 + _number(blob, position)
    if _number(blob, position) == 0:  # not encrypted
        return
    salt = position + 4
    _require(_number(blob, salt + 4 + _number(blob, salt)), _MAX_BCRYPT_ROUNDS)


def _number(blob: bytes, position: int) -> int:
    number: int = struct.unpack_from(">I", blob, position)[0]
    return number


def _check_pkcs8(blob: bytes) -> None:
    """RFC 5958: EncryptedPrivateKeyInfo, a sequence that begins with the algorithm and its parameters."""
    _, content = next(_elements(blob))
    _, algorithm = next(_elements(content))
    leaves = list(_leaves(algorithm))
    numbers = [int.from_bytes(value, "big", signed=True) for kind, value in leaves if kind == _INTEGER]
    if (_OBJECT_ID, _SCRYPT) in leaves:
        _require(math.prod(numbers[:3]), _MAX_SCRYPT_COST)
    else:
        _require(max(numbers, default=0), _MAX_PBKDF2_ROUNDS)


def _require(cost: int, most: int) -> None:
    if not 0 <= cost <= most:
        raise KeyUnusable(
            f"The private key asks for {cost} rounds of key derivation; at most {most} are done",
            hint="Encrypt it with fewer: ssh-keygen -p -a 100 -f KEY",
        )


def _leaves(content: bytes) -> Iterator[tuple[int, bytes]]:
    for kind, value in _elements(content):
        if kind == _SEQUENCE:
            yield from _leaves(value)
        else:
            yield kind, value


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The DER elements that follow each other in `content`, as (tag, value)."""
    position = 0
    while position < len(content):
        kind, length = content[position], content[position + 1]
        position += 2
        if length >= 0x80:
            size = length & 0x7F
            length = int.from_bytes(content[position : position + size], "big")
            position += size
        if length > len(content) - position:
            raise ValueError("an element is longer than what it is in")
        yield kind, content[position : position + length]
        position += length
