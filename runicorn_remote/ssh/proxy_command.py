"""A ProxyCommand of ssh_config(5): a process that stands for the TCP connection."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess

from runicorn_remote.errors import SshConfigUnusable, Unreachable
from runicorn_remote.ssh.openssh import kill_group
from runicorn_remote.ssh.target import Target

logger = logging.getLogger(__name__)

_ENDS_WITHIN = 1.0  # seconds


class ProxyCommand:
    """The running command and `sock`, which is its standard input and output.

    A socket, not two pipes: the transport sets time-outs on it and polls it as it does with TCP. Any
    thread may close it; whoever started it has to.
    """

    def __init__(self, target: Target, command: str) -> None:
        """`command` goes to the shell, as with ssh; its tokens have been filled in.

        Raises `SshConfigUnusable` where commands cannot be run so, or at all.
        """
        if os.name == "nt":
            raise SshConfigUnusable("ProxyCommand is not supported on Windows", hint="Use ProxyJump.")
        self._target = target
        self.sock, theirs = socket.socketpair()
        try:
            # A session of its own: it must not ask for passwords on the server's terminal.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
            )
        except OSError as error:
            self.sock.close()
            raise SshConfigUnusable(f"The ProxyCommand for {target} cannot be run: {error}") from error
        finally:
            theirs.close()
        logger.info("Started the ProxyCommand for %s, pid %d", target, self._process.pid)

    def failure(self) -> Unreachable | None:
        """Why nobody answers, if it is because the command has ended."""
        try:
            status = self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            return None
        return Unreachable(
            f"The ProxyCommand for {self._target} ended with status {status}",
            code="PROXY_COMMAND_FAILED",
            hint="What it had to say is on the server's standard error.",
        )

    def close(self) -> None:
        """End the command. Waits at most a second or so, and kills it then."""
        self.sock.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
            self._process.wait(_ENDS_WITHIN)
