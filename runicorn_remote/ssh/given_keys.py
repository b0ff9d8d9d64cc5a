"""The key that a caller gave, loaded once for all servers on the way."""

from __future__ import annotations

import paramiko

from runicorn_remote.errors import PassphraseRequired
from runicorn_remote.ssh.agent import AgentKeys
from runicorn_remote.ssh.certificates import UserCertificate, certified, parse_certificates
from runicorn_remote.ssh.identities import parse_public_key
from runicorn_remote.ssh.key_paths import KeyPaths
from runicorn_remote.ssh.keys import load_private_key
from runicorn_remote.ssh.target import Credentials


class GivenKeys:
    """For one login and one thread; close it. Secrets are forgotten then."""

    def __init__(self, credentials: Credentials, key_paths: KeyPaths, agent_path: str | None) -> None:
        """Loads the key at once. Raises `KeyUnusable` and its kinds."""
        self._key_paths = key_paths
        self._agent = AgentKeys(agent_path if credentials.use_agent else "none")
        self._certificates: list[UserCertificate] = []
        self._keys: list[paramiko.PKey] = []
        try:
            if credentials.private_key is not None:
                self._keys = [load_private_key(credentials.private_key, credentials.passphrase)]
            elif credentials.private_key_path is not None:
                path = credentials.private_key_path
                self._keys = self._from_file(path, credentials.passphrase)
                self._certificates = parse_certificates(key_paths.read_public(path, "-cert.pub"))
        except BaseException:
            self.close()
            raise

    def keys(self, certificates: list[UserCertificate]) -> list[paramiko.PKey]:
        """The key; before it, itself with each certificate that is for it."""
        return [*certified(self._keys, [*certificates, *self._certificates]), *self._keys]

    def close(self) -> None:
        self._keys = []
        self._agent.close()

    def _from_file(self, path: str, passphrase: str | None) -> list[paramiko.PKey]:
        try:
            return [self._key_paths.load(path, passphrase)]
        except PassphraseRequired:
            # As ssh does: the agent may hold the very key that is encrypted on disk.
            public = parse_public_key(self._key_paths.read_public(path))
            keys: list[paramiko.PKey] = [key for key in self._agent.get() if key.asbytes() == public]
            if not keys:
                raise
            return keys
