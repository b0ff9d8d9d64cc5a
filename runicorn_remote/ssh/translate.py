"""The one place where the errors of paramiko, sockets and invoke become ours."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from runicorn_remote.errors import (
    AuthenticationFailed,
    LinkLost,
    LoginFailed,
    NoCommonAlgorithm,
    RemoteError,
    Unreachable,
    WeakAlgorithmsOnly,
)
from runicorn_remote.ssh.algorithms import NothingInCommon
from runicorn_remote.ssh.target import Target

_PROHIBITED = 1  # RFC 4254, 5.1: administratively
_LONGEST_TEXT = 200


_NO_COMMON_HINT = "That sshd is old, or knows only what paramiko does not. Update it, or allow it more."


@contextmanager
def login_errors(target: Target) -> Iterator[None]:
    """Around everything from the first packet to the end of authentication."""
    where = f"{target.bracketed_host} port {target.port}"
    try:
        yield
    except RemoteError:
        raise
    except paramiko.AuthenticationException as error:
        raise AuthenticationFailed(
            f"Authentication failed for {target}",
            hint="Check the user name and the password or key; ssh -v shows what the host accepts.",
        ) from error
    except NothingInCommon as error:
        if all(lack.weak_would_do for lack in error.lacks):
            raise WeakAlgorithmsOnly(
                f"The SSH server at {where} offers only weak algorithms. {error}"
            ) from error
        raise NoCommonAlgorithm(
            f"No algorithm in common with the SSH server at {where}. It offers {error}", hint=_NO_COMMON_HINT
        ) from error
    except IncompatiblePeer as error:
        raise NoCommonAlgorithm(
            f"No algorithm in common with the SSH server at {where}: {error}", hint=_NO_COMMON_HINT
        ) from error
    except (EOFError, ConnectionError, TimeoutError, paramiko.SSHException, OSError) as error:
        raise _broken_handshake(where, error) from error


def _broken_handshake(where: str, error: BaseException) -> RemoteError:
    said = str(error)
    if "banner" in said or "Indecipherable" in said:  # the latter: it talks, and not SSH
        return Unreachable(
            f"No SSH banner from {where}",
            code="NO_SSH_BANNER",
            hint="Something accepts connections there and is not an SSH server, or a firewall or an "
            "overloaded sshd drops us.",
        )
    if isinstance(error, TimeoutError) or "timeout" in said.lower() or "No existing session" in said:
        return Unreachable(f"Time-out during the SSH handshake with {where}", code="HANDSHAKE_TIMEOUT")
    if isinstance(error, (EOFError, ConnectionError)) or "reset" in said or not said:
        return Unreachable(f"{where} closed the connection during the SSH handshake", code="HANDSHAKE_CLOSED")
    return LoginFailed(f"The SSH handshake with {where} failed: {said}", code="HANDSHAKE_FAILED")


def unreachable(target: Target, error: OSError) -> Unreachable:
    """The error for a TCP connection that could not be made."""
    where = f"{target.bracketed_host} port {target.port}"
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"Host name {target.host} cannot be resolved", code="HOST_NOT_FOUND", hint="Check the spelling."
        )
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(
            f"Connection refused by {where}", code="CONNECTION_REFUSED", hint="Is sshd running on that port?"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"Time-out connecting to {where}", code="CONNECT_TIMEOUT")
    return Unreachable(f"{where} cannot be reached: {error.strerror or error}", code="NO_ROUTE")


@contextmanager
def jump_errors(jump_host: str, target: Target) -> Iterator[None]:
    """Around asking `jump_host` for a connection to `target`."""
    where = f"{target.bracketed_host} port {target.port}"
    try:
        yield
    except paramiko.ChannelException as error:
        if error.code == _PROHIBITED:
            raise Unreachable(
                f"The jump host {jump_host} does not forward connections to {where}",
                code="JUMP_REFUSED",
                hint="Its sshd has to allow it: AllowTcpForwarding, PermitOpen.",
            ) from error
        raise Unreachable(
            f"The jump host {jump_host} cannot reach {where}: {_plain(error.text)}",
            code="NO_ROUTE",
            hint="The jump host resolves the name and connects, not this machine.",
        ) from error
    except (EOFError, paramiko.SSHException, OSError) as error:
        if "timeout opening" in str(error).lower():
            raise Unreachable(
                f"Time-out connecting to {where} through the jump host {jump_host}", code="CONNECT_TIMEOUT"
            ) from error
        raise Unreachable(
            f"The jump host {jump_host} closed the connection on the way to {where}", code="HANDSHAKE_CLOSED"
        ) from error


def _plain(text: str) -> str:
    """What a remote host says, short and printable."""
    return "".join(character if character.isprintable() else " " for character in str(text))[:_LONGEST_TEXT]


@contextmanager
def link_errors(target: Target) -> Iterator[None]:
    """Around everything done over a connection that was up. A refused channel is not a lost link."""
    try:
        yield
    except RemoteError:
        raise
    except paramiko.ChannelException as error:
        raise LinkLost(
            f"{target} refused a channel: {error.text or error}",
            code="CHANNEL_REFUSED",
            hint="sshd limits sessions a connection (MaxSessions) and may forbid forwarding "
            "(AllowTcpForwarding).",
        ) from error
    except (EOFError, paramiko.SSHException, OSError) as error:
        if isinstance(error, TimeoutError) or "timeout opening" in str(error).lower():
            raise LinkLost(f"{target} does not answer", code="LINK_TIMEOUT") from error
        raise LinkLost(f"The SSH connection to {target} is lost: {error or type(error).__name__}") from error
