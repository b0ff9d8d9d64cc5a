"""OpenSSH user certificates: a key's public half, signed by an authority (PROTOCOL.certkeys)."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable
from dataclasses import dataclass

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, load_ssh_public_identity
from paramiko.agent import AgentKey
from paramiko.pkey import PublicBlob

from runicorn_remote.ssh.host_certificates import public_half


@dataclass(frozen=True)
class UserCertificate:
    """`text` is one line, `type base64 comment`; `public` the wire form of the key it is for."""

    text: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> UserCertificate:
        """From the content of a `…-cert.pub` file. Raises `ValueError`."""
        line = text.strip()
        try:
            identity = load_ssh_public_identity(line.encode())
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if not isinstance(identity, SSHCertificate):
            raise ValueError("a plain key, not a certificate")
        return cls(line, public_half(identity.public_key()).blob)

    def attach(self, key: paramiko.PKey) -> paramiko.PKey:
        """`key` again, offered with this certificate; `key` itself stays as it is."""
        if isinstance(key, AgentKey):
            with_certificate: paramiko.PKey = AgentKey(key.agent, key.blob)
        else:
            with_certificate = copy.copy(key)
        with_certificate.public_blob = PublicBlob.from_string(self.text)
        return with_certificate


def certified(keys: Iterable[paramiko.PKey], certificates: Iterable[UserCertificate]) -> list[paramiko.PKey]:
    """Those of `keys` that a certificate is for, with it, in the order of the certificates."""
    by_public = {key.asbytes(): key for key in keys}
    return [
        certificate.attach(by_public[certificate.public])
        for certificate in certificates
        if certificate.public in by_public
    ]


def parse_certificates(text: str | None) -> list[UserCertificate]:
    """The certificate in the text of a file, if there is one."""
    with contextlib.suppress(ValueError):
        return [UserCertificate.parse(text or "")]
    return []
