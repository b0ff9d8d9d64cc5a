"""The question about a host's key, bound to the key that this very handshake showed."""

from __future__ import annotations

import paramiko

from runicorn_remote.errors import HostKeyConfirmationRequired, HostKeyProblem, HostKeyRevoked
from runicorn_remote.ssh.known_hosts import HostKey, known_hosts_name
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.route import Hop


class HostKeyPolicy(paramiko.MissingHostKeyPolicy):
    """Lets a stored key pass, raises for every other. Nothing here ever adds a key."""

    def __init__(self, known_hosts: KnownHostsFile, hop: Hop) -> None:
        self._known_hosts = known_hosts
        self._hop = hop

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Called by paramiko in the thread that logs in, before any credential is sent."""
        host, port = self._hop.key_host, self._hop.key_port
        shown = HostKey(key.get_name(), key.asbytes())
        verdict = self._known_hosts.judge(host, port, shown.type, shown.blob)
        if verdict.kind == "trusted":
            return
        if verdict.kind == "revoked":
            raise HostKeyRevoked(
                f"The host key of {known_hosts_name(host, port)} is marked as revoked",
                hint=f"Do not log in there. The mark is in {self._known_hosts.path}.",
            )
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
            )
        )
