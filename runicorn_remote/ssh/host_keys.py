"""The question about a host's key, bound to the key that this very handshake showed."""

from __future__ import annotations

import time

import paramiko

from runicorn_remote.errors import (
    HostKeyConfirmationRequired,
    HostKeyProblem,
    HostKeyRevoked,
    WeakAlgorithmsOnly,
)
from runicorn_remote.ssh.algorithms import SMALLEST_RSA_KEY
from runicorn_remote.ssh.host_certificates import NotAccepted, check_host_certificate, signer
from runicorn_remote.ssh.known_hosts import HostKey, known_hosts_name
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.route import Hop


class HostKeyPolicy(paramiko.MissingHostKeyPolicy):
    """Lets a stored key and a certificate of a stored authority pass, raises for every other.

    Nothing here ever adds a key.
    """

    def __init__(self, known_hosts: KnownHostsFile, hop: Hop, *, allow_weak: bool = False) -> None:
        self._known_hosts = known_hosts
        self._hop = hop
        self._allow_weak = allow_weak

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called by paramiko in the thread that logs in, before any credential is sent."""
        host, port = self._hop.key_host, self._hop.key_port
        if isinstance(key, paramiko.RSAKey) and key.get_bits() < SMALLEST_RSA_KEY and not self._allow_weak:
            raise WeakAlgorithmsOnly(
                f"The RSA host key of {known_hosts_name(host, port)} has {key.get_bits()} bits; below "
                f"{SMALLEST_RSA_KEY} it is too weak"
            )
        shown = HostKey(key.get_name(), key.asbytes())
        verdict = self._known_hosts.judge(host, port, shown.type, shown.blob)
        if verdict.kind == "revoked":
            raise self._revoked(f"The host key of {known_hosts_name(host, port)}")
        not_accepted: str | None = None
        if key.public_blob is not None:  # paramiko keeps the certificate there
            try:
                self._check_certificate(key.public_blob, shown)
                return
            except NotAccepted as error:
                not_accepted = f"{error}. So its plain key counts."
        if verdict.kind == "trusted":
            return
        expected = verdict.expected
        raise HostKeyConfirmationRequired(
            HostKeyProblem(
                host=host,
                port=port,
                known_hosts_host=known_hosts_name(host, port),
                key_type=shown.type,
                fingerprint_sha256=shown.fingerprint_sha256,
                public_key=str(shown),
                reason=verdict.kind,
                expected_fingerprint_sha256=expected.fingerprint_sha256 if expected else None,
                expected_public_key=str(expected) if expected else None,
            ),
            hint=not_accepted,
        )

    def _check_certificate(self, blob: paramiko.pkey.PublicBlob, shown: HostKey) -> None:
        host, port = self._hop.key_host, self._hop.key_port
        entries = self._known_hosts.lookup_certificate(host, port)
        certificate = HostKey(blob.key_type, blob.key_blob)
        if {signer(certificate), shown} & {*entries.revoked}:
            raise self._revoked(f"The authority of {host}'s certificate, or its key,")
        check_host_certificate(certificate, shown, host, entries, time.time())

    def _revoked(self, what: str) -> HostKeyRevoked:
        return HostKeyRevoked(
            f"{what} is marked as revoked",
            hint=f"Do not log in there. The mark is in {self._known_hosts.path}.",
        )
