"""The keys to try at a host when the caller gave none: those of the agent and of files, as ssh has it.

The order is that of ssh (sshconnect2.c, pubkey_prepare): certificates; keys of the agent that the
configuration names; the agent's other keys, unless IdentitiesOnly; keys that are only in files. sshd
counts each one that is offered (MaxAuthTries 6), so the order matters and none is offered twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import paramiko

from runicorn_remote.errors import KeyUnusable, PassphraseRequired, PassphraseWrong
from runicorn_remote.ssh.agent import AgentKeys
from runicorn_remote.ssh.certificates import UserCertificate, certified, parse_certificates
from runicorn_remote.ssh.key_paths import read_own_key
from runicorn_remote.ssh.keys import load_private_key
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.ssh_config import HostOptions

# What ssh itself tries when nothing is configured, best first.
_DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")


class Identities:
    """For one login and one thread. `agent` is not closed here."""

    def __init__(
        self, options: HostOptions, agent: AgentKeys, *, use_defaults: bool, passphrase: str | None = None
    ) -> None:
        """`use_defaults`: whether ssh's default files count where none is configured.

        `passphrase`: of the files.
        """
        self._options = options
        self._agent = agent
        self._passphrase = passphrase
        self.encrypted: list[str] = []  # configured, and passed over for want of a passphrase
        if options.identity_files is not None:
            self._files = options.identity_files
        else:
            directory = Path.home() / ".ssh"
            self._files = tuple(str(directory / name) for name in _DEFAULT_NAMES) if use_defaults else ()

    def certificates(self) -> list[UserCertificate]:
        """Those of CertificateFile, and the one beside each key file."""
        paths = (*self._options.certificate_files, *(f"{path}-cert.pub" for path in self._files))
        return [certificate for path in paths for certificate in parse_certificates(_text(path))]

    def keys(self) -> Iterator[paramiko.PKey]:
        """Best first. A file is not read before it is its turn, except for certificates."""
        agent_keys = self._agent.get()
        by_public = {key.asbytes(): key for key in agent_keys}
        named = [by_public[public] for public in self._named_publics() if public in by_public]
        certificates = self.certificates()
        files = list(self._from_files()) if certificates else None
        yield from certified([*(files or ()), *named, *agent_keys], certificates)
        yield from named
        if not self._options.identities_only:
            yield from (key for key in agent_keys if key not in named)
        offered = {key.asbytes() for key in agent_keys}
        yield from (key for key in files or self._from_files() if key.asbytes() not in offered)

    def _named_publics(self) -> Iterator[bytes]:
        """The wire forms of the public halves; a file may be one itself, of a key that is in the agent."""
        for path in self._files:
            public = parse_public_key(_text(path)) or parse_public_key(_text(f"{path}.pub"))
            if public is not None:
                yield public

    def _from_files(self) -> Iterator[paramiko.PKey]:
        for path in self._files:
            try:
                yield load_private_key(read_own_key(Path(path)), self._passphrase)
            except (PassphraseRequired, PassphraseWrong):
                if self._options.identity_files is not None:
                    self.encrypted.append(path)
            except (OSError, ValueError, KeyUnusable):
                continue


def parse_public_key(text: str | None) -> bytes | None:
    """The wire form of the public key in the text of a `.pub` file; None if there is none."""
    try:
        key_type, key_base64 = (text or "").split()[:2]
        return HostKey.of(key_type, key_base64).blob
    except ValueError:
        return None


def _text(path: str) -> str | None:
    """Of a file that ssh_config names."""
    try:
        return read_own_key(Path(path))
    except (OSError, ValueError):
        return None
