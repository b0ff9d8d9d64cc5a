"""What is tried at a login, in which order, and never a prompt on the server's own terminal.

What the caller gave comes first and alone: a password that is wrong must fail even where an agent
key would do. Without any, the agent and ssh's default key files are tried, as `ssh host` does.
sshd counts every key that is offered (`MaxAuthTries 6`), so nothing is offered twice.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, Password

from runicorn_remote.errors import (
    AuthenticationFailed,
    KeyUnusable,
    PassphraseRequired,
    RemoteError,
    Unreachable,
)
from runicorn_remote.ssh.key_paths import KeyPaths, read_own_key
from runicorn_remote.ssh.keys import load_private_key
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.target import Credentials, Target

logger = logging.getLogger(__name__)

# What ssh itself tries when nothing is configured, best first.
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
# A key with confirmation (ssh-add -c) waits for its owner.
_AGENT_TIMEOUT = 20.0
# sshd's MaxAuthTries is 6, and counts a first "none" that asks what is allowed.
_TOO_MANY_KEYS = 5


class Authentication(AuthStrategy):
    """One login. Loads the key at once, so that an unusable one fails before anything is sent.

    Raises `KeyUnusable` and its kinds from the constructor.
    """

    def __init__(self, target: Target, credentials: Credentials, key_paths: KeyPaths) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._target = target
        self._key_paths = key_paths
        self._credentials: Credentials | None = credentials
        self._agent: Agent | None = None
        try:
            self._keys = self._explicit_keys(credentials)
        except BaseException:
            self.close()
            raise

    def get_sources(self) -> Iterator[InMemoryPrivateKey | Password]:
        credentials = self._credentials
        assert credentials is not None
        user = self._target.username
        keys = iter(self._keys)
        if not credentials.explicit and credentials.use_agent:
            keys = self._ambient_keys()
        for key in keys:
            yield InMemoryPrivateKey(user, key)
        if (password := credentials.password) is not None:
            # paramiko itself turns to keyboard-interactive where sshd knows passwords only so.
            yield Password(user, lambda: password)

    def authenticate(self, transport: paramiko.Transport) -> list[Any]:
        """Try the sources until the server is content; after a partial success go on with the next.

        Called by paramiko. Raises `AuthenticationFailed`, or `Unreachable` when the server hangs up.
        """
        allowed: list[str] | None = None
        tried = 0
        for source in self.get_sources():
            if allowed is not None and not _methods(source) & set(allowed):
                continue
            tried += 1
            try:
                allowed = source.authenticate(transport)
                if not allowed:
                    return []
            except paramiko.BadAuthenticationType as error:
                allowed = error.allowed_types
            except paramiko.SSHException as error:
                if not transport.is_active():
                    raise self._cut_off(tried) from error
                if "timeout" in str(error).lower():  # paramiko calls it a refusal; nobody has refused
                    raise Unreachable(
                        f"{self._target} did not answer the login in time", code="HANDSHAKE_TIMEOUT"
                    ) from error
        if not tried:
            raise AuthenticationFailed(
                f"There is nothing to log in to {self._target} with: no password, no key, no agent key",
                hint="Give a password or a private key, or load a key into the agent (ssh-add).",
            )
        wants = f"; it accepts {', '.join(allowed)}" if allowed else ""
        raise AuthenticationFailed(
            f"Authentication failed for {self._target}{wants}",
            hint="Check the user name and the password or key; ssh -v shows what the host accepts.",
        )

    def _cut_off(self, tried: int) -> RemoteError:
        """The server hung up in the middle: it had enough of our keys, or it is going away."""
        if tried >= _TOO_MANY_KEYS:
            return AuthenticationFailed(
                f"{self._target} ended the login after {tried} keys",
                hint="The agent holds more keys than sshd lets us try (MaxAuthTries): name one of them.",
            )
        return Unreachable(f"{self._target} closed the connection during the login", code="HANDSHAKE_CLOSED")

    def close(self) -> None:
        """Forget the secrets and leave the agent. A connection object lives for days."""
        self._credentials = None
        self._keys = []
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _explicit_keys(self, credentials: Credentials) -> list[paramiko.PKey]:
        if credentials.private_key is not None:
            return [load_private_key(credentials.private_key, credentials.passphrase)]
        path = credentials.private_key_path
        if path is None:
            return []
        try:
            return [self._key_paths.load(path, credentials.passphrase)]
        except PassphraseRequired:
            # As ssh does: the agent may hold the very key that is encrypted on disk.
            keys = self._agent_keys_of(path) if credentials.use_agent else []
            if not keys:
                raise
            return keys

    def _agent_keys_of(self, path: str) -> list[paramiko.PKey]:
        try:
            key_type, key_base64 = (self._key_paths.read_public(path) or "").split()[:2]
            public = HostKey.of(key_type, key_base64)
        except ValueError:
            return []
        return [key for key in self._agent_keys() if key.asbytes() == public.blob]

    def _agent_keys(self) -> list[paramiko.PKey]:
        try:
            self._agent = self._agent or Agent()
            return list(self._agent.get_keys())
        except (OSError, paramiko.SSHException) as error:
            logger.warning("The SSH agent cannot be used: %s", error)
            return []

    def _ambient_keys(self) -> Iterator[paramiko.PKey]:
        offered = set()
        for key in self._agent_keys():
            offered.add(key.asbytes())
            yield key
        for name in _DEFAULT_KEYS:
            try:
                key = load_private_key(read_own_key(Path.home() / ".ssh" / name))
            except (OSError, ValueError, KeyUnusable):
                continue
            if key.asbytes() not in offered:
                yield key


class Agent(paramiko.Agent):
    """The SSH agent, with a time-out: a forwarded agent whose link is dead would hold us for ever."""

    def _connect(self, conn: Any) -> None:
        if isinstance(conn, socket.socket):  # on Windows it is none
            conn.settimeout(_AGENT_TIMEOUT)
        try:
            super()._connect(conn)  # type: ignore[misc]
        except BaseException:
            conn.close()
            raise


def _methods(source: InMemoryPrivateKey | Password) -> set[str]:
    """The SSH method names (RFC 4252) a source can serve."""
    if isinstance(source, Password):
        return {"password", "keyboard-interactive"}
    return {"publickey"}
