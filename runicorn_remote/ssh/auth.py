"""What is tried at a login, in which order, and never a prompt on the server's own terminal.

What the caller gave comes first and alone: a password that is wrong must fail even where an agent
key would do. Without any, the agent and the key files of ssh_config, or ssh's default ones, are
tried, as `ssh host` does (`identities.py`). sshd counts every key that is offered (`MaxAuthTries 6`),
so nothing is offered twice.

A jump host gets the caller's key, then the agent's and the files' as configured for it, and never the
password, which was given for the target.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import paramiko
from paramiko.auth_strategy import AuthStrategy, InMemoryPrivateKey, Password

from runicorn_remote.errors import (
    AuthenticationFailed,
    NothingToLogInWith,
    PassphraseRequired,
    RemoteError,
    Unreachable,
)
from runicorn_remote.ssh.agent import AgentKeys
from runicorn_remote.ssh.given_keys import GivenKeys
from runicorn_remote.ssh.identities import Identities
from runicorn_remote.ssh.interactive import KeyboardInteractive, Person, nobody_to_ask
from runicorn_remote.ssh.route import Hop
from runicorn_remote.ssh.target import Credentials

# sshd's MaxAuthTries is 6, and counts a first "none" that asks what is allowed.
_TOO_MANY_KEYS = 5


Source = InMemoryPrivateKey | Password | KeyboardInteractive


class Authentication(AuthStrategy):
    """One login at one server. `given` is not closed here."""

    def __init__(
        self, hop: Hop, credentials: Credentials, given: GivenKeys, person: Person | None = None
    ) -> None:
        """`person`: whom the server's own questions go to, in a login that somebody waits for."""
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._hop = hop
        self._target = hop.target
        self._person = person
        # It is the target's alone, whoever asks for it on the way.
        self._password = None if hop.is_jump else credentials.password
        self._credentials: Credentials | None = credentials
        self._given = given
        self._agent = AgentKeys(hop.options.identity_agent if credentials.use_agent else "none")
        self._identities = Identities(
            hop.options,
            self._agent,
            use_defaults=hop.is_jump or credentials.use_agent,
            passphrase=None if hop.is_jump else credentials.passphrase,
        )

    def get_sources(self) -> Iterator[Source]:
        credentials = self._credentials
        assert credentials is not None
        user = self._target.username
        keys: Iterable[paramiko.PKey] = self._given.keys(self._identities.certificates())
        if self._hop.is_jump or not credentials.explicit:
            keys = itertools.chain(keys, self._identities.keys())
        for key in keys:
            yield InMemoryPrivateKey(user, key)
        if (password := self._password) is not None:
            yield OnlyPassword(user, lambda: password)
        yield KeyboardInteractive(self._target, self._password, self._person)

    def authenticate(self, transport: paramiko.Transport) -> list[Any]:
        """Try the sources until the server is content; after a partial success go on with the next.

        Called by paramiko. Raises `AuthenticationFailed`, `PassphraseRequired` when that is why there is
        nothing to try, or `Unreachable` when the server hangs up.
        """
        allowed: list[str] | None = None
        partial = False
        tried = 0
        for source in self.get_sources():
            if allowed is not None and _method(source) not in allowed:
                continue
            if isinstance(source, KeyboardInteractive) and not self._may_ask(allowed, partial):
                continue
            tried += 1
            try:
                allowed = source.authenticate(transport)
                if not allowed:
                    return []
                partial = True
            except paramiko.BadAuthenticationType as error:
                allowed = error.allowed_types
            except paramiko.SSHException as error:
                if not transport.is_active():
                    raise self._cut_off(tried) from error
                if "timeout" in str(error).lower():  # paramiko calls it a refusal; nobody has refused
                    raise Unreachable(
                        f"{self._target} did not answer the login in time", code="HANDSHAKE_TIMEOUT"
                    ) from error
            if isinstance(source, KeyboardInteractive) and not source.asked:
                tried -= 1
        raise self._refused(allowed) if tried else self._nothing_to_try()

    def close(self) -> None:
        """Forget the secrets and leave the agent. A connection object lives for days."""
        self._credentials = self._password = None
        self._agent.close()

    def _refused(self, allowed: list[str] | None) -> RemoteError:
        wants = f"; it accepts {', '.join(allowed)}" if allowed else ""
        hint = "Check the user name and the password or key; ssh -v shows what the host accepts."
        return AuthenticationFailed(
            f"Authentication failed for {self._target}{wants}",
            hint=_JUMP_HINT if self._hop.is_jump else hint,
        )

    def _nothing_to_try(self) -> RemoteError:
        encrypted = self._identities.encrypted
        if encrypted and not self._hop.is_jump:
            return PassphraseRequired(
                f"The key {encrypted[0]} of ssh_config is encrypted: its passphrase is needed",
                hint="Give the passphrase, or load the key into the agent (ssh-add).",
            )
        return NothingToLogInWith(
            f"There is nothing to log in to {self._target} with: no password, no key, no agent key",
            hint=_JUMP_HINT
            if self._hop.is_jump
            else "Give a password or a private key, or load a key into the agent (ssh-add).",
        )

    def _may_ask(self, allowed: list[str] | None, partial: bool) -> bool:
        """Whether the host's own questions are next.

        After a first factor, in place of a password where the host knows passwords only so, and where
        nothing was given; not as a second chance for a key or a password that was refused.
        """
        credentials = self._credentials
        assert credentials is not None
        if partial:
            if self._person is None and self._password is None:
                # Not even begun: it may send somebody a text message or a push notification.
                raise nobody_to_ask(self._target)
            return True
        if self._password is not None:
            return allowed is not None and "password" not in allowed
        return self._person is not None and (self._hop.is_jump or not credentials.explicit)

    def _cut_off(self, tried: int) -> RemoteError:
        """The server hung up in the middle: it had enough of our keys, or it is going away."""
        if tried >= _TOO_MANY_KEYS:
            return AuthenticationFailed(
                f"{self._target} ended the login after {tried} keys",
                hint="The agent holds more keys than sshd lets us try (MaxAuthTries): name one of them, or "
                "set IdentityFile and IdentitiesOnly for this host in ssh_config.",
            )
        return Unreachable(f"{self._target} closed the connection during the login", code="HANDSHAKE_CLOSED")


_JUMP_HINT = (
    "This is a jump host: it gets the key you gave, the agent's keys and its IdentityFile; "
    "the password is the target's alone."
)


class OnlyPassword(Password):
    """The method "password" alone: paramiko goes on with keyboard-interactive, and answers all with it."""

    def authenticate(self, transport: paramiko.Transport) -> Any:
        return transport.auth_password(self.username, self.password_getter(), fallback=False)


def _method(source: Source) -> str:
    """The SSH method name (RFC 4252) of a source."""
    if isinstance(source, KeyboardInteractive):
        return "keyboard-interactive"
    return "password" if isinstance(source, OnlyPassword) else "publickey"
