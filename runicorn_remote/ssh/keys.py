"""Private keys: from their text, in every format OpenSSH users have, to what paramiko signs with.

`cryptography` does the reading (OpenSSH, PEM and PKCS#8); paramiko's own loaders cannot read PKCS#8
and raise bare TypeErrors. DSA keys and keys that live in a hardware token's file are refused by name.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import paramiko
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from runicorn_remote.errors import KeyUnusable, PassphraseRequired, PassphraseWrong
from runicorn_remote.ssh.key_derivation import refuse_endless

_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class NotAKey(KeyUnusable):
    """The text is no private key at all, as opposed to one that cannot be used."""


def load_private_key(text: str, passphrase: str | None = None) -> paramiko.PKey:
    """A key from its text. Raises `KeyUnusable`, `NotAKey`, `PassphraseRequired` or `PassphraseWrong`."""
    lines = [line.strip() for line in text.lstrip("\ufeff").strip().splitlines()]
    first = lines[0] if lines else ""
    if first.startswith("PuTTY-User-Key-File"):
        raise KeyUnusable(
            "The private key is in PuTTY's format",
            hint="Convert it: puttygen key.ppk -O private-openssh -o key",
        )
    if first.startswith(("ssh-", "ecdsa-", "sk-")) or "PUBLIC KEY" in first:
        raise NotAKey("This is a public key", hint="Give the private key: the file without .pub.")
    data = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    if first == "-----BEGIN OPENSSH PRIVATE KEY-----":
        loader: Callable[[bytes, bytes | None], object] = load_ssh_private_key
    else:
        loader = load_pem_private_key
    key: object
    try:
        refuse_endless(data)
        try:
            key = loader(data, None)
        except TypeError as error:  # how cryptography says: encrypted
            if not passphrase:
                raise PassphraseRequired("The private key is encrypted: its passphrase is needed") from error
            key = _decrypt(loader, data, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotAKey(
            "The private key cannot be read",
            hint="RSA, ECDSA and Ed25519 keys in OpenSSH, PEM or PKCS#8 format can be used.",
        ) from error
    return _for_paramiko(key)


def _decrypt(loader: Callable[[bytes, bytes | None], object], data: bytes, passphrase: str) -> object:
    try:
        return loader(data, passphrase.encode())
    except (ValueError, TypeError, InvalidTag) as error:
        raise PassphraseWrong("The passphrase of the private key is wrong") from error


def _for_paramiko(key: object) -> paramiko.PKey:
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.curve.name not in _CURVES:
            raise KeyUnusable(f"The curve {key.curve.name} of the private key is not one of SSH's")
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode("ascii")
        return paramiko.Ed25519Key(file_obj=io.StringIO(text))
    raise KeyUnusable("The type of the private key is not supported", hint="Use RSA, ECDSA or Ed25519.")
