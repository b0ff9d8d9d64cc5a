"""Private keys in every form people have them, and what is no usable key."""

from __future__ import annotations

import base64
import struct
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from runicorn_remote.errors import KeyUnusable, PassphraseRequired, PassphraseWrong
from runicorn_remote.ssh.keys import load_private_key

PASSPHRASE = "öpen sesame"
MAKERS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ecdsa256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
FORMATS = {
    "openssh": PrivateFormat.OpenSSH,
    "pem": PrivateFormat.TraditionalOpenSSL,
    "pkcs8": PrivateFormat.PKCS8,
}
SIGNATURES = {
    "rsa": "rsa-sha2-512",
    "ecdsa256": "ecdsa-sha2-nistp256",
    "ecdsa384": "ecdsa-sha2-nistp384",
    "ecdsa521": "ecdsa-sha2-nistp521",
    "ed25519": "ssh-ed25519",
}
MATRIX = [(kind, form) for kind in MAKERS for form in FORMATS if (kind, form) != ("ed25519", "pem")]


@cache
def made(kind: str) -> Any:
    return MAKERS[kind]()


def text_of(kind: str, form: str = "openssh", passphrase: str | None = None) -> str:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return made(kind).private_bytes(Encoding.PEM, FORMATS[form], encryption).decode()


def public_blob(kind: str) -> bytes:
    line = made(kind).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def check(key: paramiko.PKey, kind: str) -> None:
    """It is that very key, and it signs."""
    assert key.asbytes() == public_blob(kind)
    signature = key.sign_ssh_data(b"data", SIGNATURES[kind])
    signature.rewind()
    public = type(key)(data=public_blob(kind))
    assert public.verify_ssh_sig(b"data", signature)


@pytest.mark.parametrize(("kind", "form"), MATRIX)
def test_plain(kind: str, form: str) -> None:
    check(load_private_key(text_of(kind, form)), kind)


@pytest.mark.parametrize(("kind", "form"), MATRIX)
def test_encrypted(kind: str, form: str) -> None:
    text = text_of(kind, form, PASSPHRASE)
    check(load_private_key(text, PASSPHRASE), kind)
    for nothing in (None, ""):
        with pytest.raises(PassphraseRequired):
            load_private_key(text, nothing)
    with pytest.raises(PassphraseWrong):
        load_private_key(text, "a wrong guess")


@pytest.mark.parametrize(("kind", "form"), MATRIX)
def test_a_passphrase_that_is_not_needed_does_no_harm(kind: str, form: str) -> None:
    check(load_private_key(text_of(kind, form), PASSPHRASE), kind)


@pytest.mark.parametrize("form", ["RFC4716", "PEM", "PKCS8"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["plain", "encrypted"])
def test_what_ssh_keygen_writes(tmp_path: Path, kind: str, form: str, passphrase: str) -> None:
    path = tmp_path / "key"
    bits = {"rsa": "2048", "ecdsa": "384", "ed25519": "256"}[kind]
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-m", form, "-N", passphrase, "-a", "2", "-f", path],
        check=True,
        timeout=30,
    )
    key = load_private_key(path.read_text(), passphrase or None)
    assert key.asbytes() == base64.b64decode((tmp_path / "key.pub").read_text().split()[1])


@pytest.mark.parametrize(("kind", "form"), [("rsa", "pem"), ("ed25519", "openssh"), ("ecdsa256", "pkcs8")])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n  " + text + "\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "  \n\t"),
        lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
    ],
    ids=["no newline", "blank lines", "crlf", "bom", "trailing blanks", "indented"],
)
def test_what_a_paste_does_to_a_key(kind: str, form: str, damage: Callable[[str], str]) -> None:
    check(load_private_key(damage(text_of(kind, form))), kind)
    if form != "pkcs8":
        check(load_private_key(damage(text_of(kind, form, PASSPHRASE)), PASSPHRASE), kind)


def dsa_key() -> str:
    key = dsa.generate_private_key(1024)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def pem_of(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "", "cannot be read"),
        (lambda: " \n", "cannot be read"),
        (lambda: "hunter2", "cannot be read"),
        (lambda: "\ud800\0", "cannot be read"),
        (lambda: text_of("rsa", "pem")[:200], "cannot be read"),
        (lambda: text_of("ed25519").replace("AAAA", "", 1), "cannot be read"),
        (lambda: text_of("rsa", "pkcs8").replace("M", "N", 1), "cannot be read"),
        (lambda: "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----", "cannot be read"),
        (lambda: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (lambda: "ssh-ed25519 AAAA me@here", "public key"),
        (lambda: "sk-ssh-ed25519@openssh.com AAAA", "public key"),
        (lambda: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "public key"),
        (lambda: "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA", "public key"),
        (lambda: "PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\n", "PuTTY"),
        (dsa_key, "not supported"),
        (lambda: pem_of(ed448.Ed448PrivateKey.generate()), "not supported"),
        (lambda: pem_of(ec.generate_private_key(ec.SECP256K1())), "curve secp256k1"),
    ],
)
def test_what_is_no_usable_key(make: Callable[[], str], said: str) -> None:
    text = make()
    with pytest.raises(KeyUnusable, match=said) as caught:
        load_private_key(text)
    assert caught.value.code == "KEY_UNUSABLE"
    if len(text) > 40:
        assert text[30:50] not in f"{caught.value}{caught.value.hint}"


# --- keys that ask for endless work


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def number(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def pkcs8(derivation: str, *parameters: bytes) -> str:
    """PBES2 with AES-256-CBC; what it encrypts is nonsense."""
    function = der(0x30, der(0x06, bytes.fromhex(derivation)), der(0x30, der(0x04, b"saltsalt"), *parameters))
    cipher = der(0x30, der(0x06, bytes.fromhex("60864801650304012a")), der(0x04, b"i" * 16))
    scheme = der(0x30, der(0x06, bytes.fromhex("2a864886f70d01050d")), der(0x30, function, cipher))
    blob = der(0x30, scheme, der(0x04, b"c" * 64))
    return armoured("ENCRYPTED", blob)


def armoured(kind: str, blob: bytes) -> str:
    body = base64.encodebytes(blob).decode()
    return f"-----BEGIN {kind} PRIVATE KEY-----\n{body}-----END {kind} PRIVATE KEY-----\n"


def pbkdf2(rounds: int) -> str:
    sha256 = der(0x30, der(0x06, bytes.fromhex("2a864886f70d0209")), b"\x05\0")
    return pkcs8("2a864886f70d01050c", number(rounds), sha256)


def scrypt(cost: int, block: int, parallel: int) -> str:
    return pkcs8("2b06010401da47040b", number(cost), number(block), number(parallel))


def bcrypt(rounds: int) -> str:
    """A real encrypted key that asks for other rounds than it was made with."""
    lines = text_of("ed25519", "openssh", PASSPHRASE).splitlines()
    blob = bytearray(base64.b64decode("".join(lines[1:-1])))
    salt = blob.index(b"bcrypt") + len(b"bcrypt") + 4
    struct.pack_into(">I", blob, salt + 4 + struct.unpack_from(">I", blob, salt)[0], rounds)
    return armoured("OPENSSH", bytes(blob))


@pytest.mark.parametrize(
    "text",
    [
        pbkdf2(2_000_001),
        pbkdf2(2**31 - 1),
        pbkdf2(2**64),
        pbkdf2(-1 + 2**10_000),
        scrypt(2**20, 8, 1),
        scrypt(2**10, 2**20, 1),
        scrypt(2**10, 8, 2**20),
        bcrypt(2001),
        bcrypt(2**32 - 1),
        # The loaders look for the first block they know, wherever it is.
        "a remark\n" + pbkdf2(2**31 - 1),
        text_of("ed25519", "pkcs8").replace("PRIVATE", "ANY") + pbkdf2(2**31 - 1),
        bcrypt(2**32 - 1) + "=\nmore text\n",
        bcrypt(2**32 - 1).replace("\n-----END", "=\n-----END"),
        armoured("ENCRYPTED", b""),
        armoured("ENCRYPTED", b"\x30"),
        armoured("ENCRYPTED", b"\x30\x00"),
        armoured("ENCRYPTED", b"\x30\x80" * 4000),
        armoured("ENCRYPTED", b"\x30\x84\xff\xff\xff\xff" * 4000),
        armoured("OPENSSH", b"openssh-key-v1\0\xff\xff\xff\xff"),
    ],
    ids=lambda text: text[:5] + str(len(text)),
)
def test_endless_key_derivation(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(KeyUnusable) as caught:
        load_private_key(text, PASSPHRASE)
    assert caught.value.code == "KEY_UNUSABLE"
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", [pbkdf2(600_000), scrypt(16384, 8, 1), bcrypt(24)], ids=["p", "s", "b"])
def test_costly_key_derivation_is_done(text: str) -> None:
    """These are refused only for what they encrypt."""
    with pytest.raises(PassphraseWrong):
        load_private_key(text, "a wrong guess")
