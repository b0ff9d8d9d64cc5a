"""Host certificates: a host's key, signed by an authority that known_hosts names with `@cert-authority`.

The format is that of PROTOCOL.certkeys in OpenSSH, the rules those of sshd(8), "SSH_KNOWN_HOSTS FILE
FORMAT", and of ssh's check_host_cert. That the host has the certificate's private half is proved by
the handshake; here it is judged what the certificate says. Plain computation; any thread may call it.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)
from cryptography.hazmat.primitives.serialization.ssh import SSHCertPublicKeyTypes

from runicorn_remote.ssh.algorithms import SMALLEST_RSA_KEY
from runicorn_remote.ssh.known_hosts import HostEntries, HostKey

_RSA_SIGNATURES = (b"rsa-sha2-256", b"rsa-sha2-512")


class NotAccepted(Exception):
    """Why a certificate does not speak for its host. The plain key in it may still be known."""


def check_host_certificate(
    certificate: HostKey, shown: HostKey, host: str, entries: HostEntries, now: float
) -> None:
    """Return if `certificate` says that `shown`, the key the handshake proved, is that of `host`.

    `host` is the name without a port, as known_hosts has it. `entries` are those about it. `now` in
    seconds since the epoch. Raises `NotAccepted` with a sentence.
    """
    found = _parse(certificate)
    authority = public_half(found.signature_key())
    if authority not in entries.authorities:
        raise NotAccepted("No @cert-authority of known_hosts has signed the host's certificate")
    try:
        found.verify_cert_signature()
    except (InvalidSignature, ValueError, AssertionError) as error:
        raise NotAccepted("The signature of the host's certificate is wrong") from error
    if not _is_sound(found, certificate.blob):
        raise NotAccepted("The host's certificate is signed with SHA-1, or a short RSA key")
    if found.type is not SSHCertificateType.HOST:
        raise NotAccepted("The host has shown a user's certificate")
    if public_half(found.public_key()) != shown:
        raise NotAccepted("The host's certificate is for another key")
    if found.critical_options:
        raise NotAccepted("The host's certificate has critical options that are not known here")
    if not found.valid_after <= now < found.valid_before:
        raise NotAccepted("The host's certificate is not valid yet, or no longer")
    # ssh takes a certificate without names for every host; so wide a one is rather a mistake.
    if host.lower().encode() not in found.valid_principals:
        raise NotAccepted(f"The host's certificate is not for {host}")


def signer(certificate: HostKey) -> HostKey | None:
    """The authority that a certificate says has signed it; None if it cannot be read."""
    try:
        return public_half(_parse(certificate).signature_key())
    except NotAccepted:
        return None


def public_half(key: SSHCertPublicKeyTypes) -> HostKey:
    """The key as known_hosts has it."""
    words = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii").split()
    return HostKey.of(words[0], words[1])


def _parse(certificate: HostKey) -> SSHCertificate:
    try:
        found = load_ssh_public_identity(str(certificate).encode())
        if isinstance(found, SSHCertificate):
            found.signature_key()
            return found
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotAccepted("The host's certificate cannot be read") from error
    raise NotAccepted("The host's certificate cannot be read")


def _is_sound(found: SSHCertificate, blob: bytes) -> bool:
    """Whether an RSA authority is long enough and has signed with SHA-2.

    What it used stands right before its signature.
    """
    key = found.signature_key()
    if not isinstance(key, rsa.RSAPublicKey):
        return True
    if key.key_size < SMALLEST_RSA_KEY:
        return False
    before = blob[: -((key.key_size + 7) // 8) - 4]
    return before.endswith(_RSA_SIGNATURES)
