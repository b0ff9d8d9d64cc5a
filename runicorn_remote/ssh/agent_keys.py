"""What the SSH agent holds, for people to see."""

from __future__ import annotations

import os
import sys

import paramiko

from runicorn_remote.errors import KeyUnusable
from runicorn_remote.ssh.agent import Agent
from runicorn_remote.ssh.known_hosts import HostKey


def agent_keys() -> list[str] | None:
    """Type and fingerprint of each key; None if there is no agent. Raises `KeyUnusable` for a broken one."""
    path = os.environ.get("SSH_AUTH_SOCK") or None
    if path is None and sys.platform != "win32":
        return None
    agent = None
    try:
        agent = Agent(path)
        keys = [HostKey(key.get_name(), key.asbytes()) for key in agent.get_keys()]
    except (OSError, paramiko.SSHException) as error:
        raise KeyUnusable(
            f"The SSH agent cannot be used: {error}", hint="Is SSH_AUTH_SOCK the socket of a running agent?"
        ) from error
    finally:
        if agent is not None:
            agent.close()
    return [f"{key.type} {key.fingerprint_sha256}" for key in keys]
