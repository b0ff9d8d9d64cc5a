"""The SSH agent (ssh-agent(1)), with a time-out."""

from __future__ import annotations

import logging
import socket
from typing import Any

import paramiko
from paramiko.agent import AgentKey
from paramiko.pkey import PublicBlob

logger = logging.getLogger(__name__)

# A key with confirmation (ssh-add -c) waits for its owner.
_TIMEOUT = 20.0
_CERTIFICATE = "-cert-v01@openssh.com"


class Agent(paramiko.Agent):
    """One conversation with an agent. A forwarded agent whose link is dead would hold us for ever."""

    def __init__(self, path: str | None = None) -> None:
        """`path`: its socket; None: what SSH_AUTH_SOCK or the platform has.

        Raises `OSError`, `SSHException`.
        """
        if path is None:
            super().__init__()
            return
        paramiko.agent.AgentSSH.__init__(self)
        conn = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            conn.settimeout(_TIMEOUT)
            conn.connect(path)
        except BaseException:
            conn.close()
            raise
        self._connect(conn)

    def _connect(self, conn: Any) -> None:
        if isinstance(conn, socket.socket):  # on Windows it is none
            conn.settimeout(_TIMEOUT)
        try:
            super()._connect(conn)  # type: ignore[misc]
        except BaseException:
            conn.close()
            raise


class AgentKeys:
    """The keys of one agent, asked for when they are first wanted. For one thread; close it."""

    def __init__(self, path: str | None = None) -> None:
        """`path`: the agent's socket; None: that of SSH_AUTH_SOCK; "none": there is none."""
        self._path = path
        self._agent: Agent | None = None

    def get(self) -> list[AgentKey]:
        """In the agent's order; none if it cannot be used."""
        if self._path == "none":
            return []
        try:
            self._agent = self._agent or Agent(self._path)
            keys = list(self._agent.get_keys())
        except (OSError, paramiko.SSHException) as error:
            logger.warning("The SSH agent cannot be used: %s", error)
            return []
        for key in keys:
            if key.get_name().endswith(_CERTIFICATE):  # paramiko would send the plain key for it
                key.public_blob = PublicBlob(key.get_name(), key.blob)  # type: ignore[assignment]
        return keys

    def close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
