"""Starting a viewer on a compute node, by a launch command. Runs on the remote machine: Python >= 3.6.

What is started here, in the viewer's place, is the relay; see `node_relay`.
"""

import binascii
import contextlib
import json
import os
import secrets
import shlex
import sys
import zlib
from typing import Any

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.node_files import (
    COMMAND_FAILED,
    NODE_COMMAND_NAME,
    NODE_FAILED,
    NODE_NAME,
    RELAY_NAME,
)
from runicorn_remote.onhost.peer_owner import tells_owners
from runicorn_remote.onhost.private_files import read_private_file, to_path, to_text, write_private_file

_COMMAND_WORD = "{command}"


class NodeLaunch:
    """`template`: the launch command's words, one of them `{command}`. `program`: the source of the relay."""

    def __init__(self, template: "list[str]", program: str) -> None:
        if not tells_owners():
            raise Failure(
                "LAUNCH_HOST_UNSUPPORTED",
                "This login node does not tell who connects to a port (/proc/net/tcp), and everybody here "
                "could use the viewer",
            )
        self._template = template
        self._program = program

    def command(self, directory: str, session_id: str, port: int, viewer: "dict[str, Any]") -> "list[bytes]":
        """The relay's command line; its files are written. `viewer`: as `viewer_command` takes it."""
        forget_node(directory)
        token = secrets.token_hex(12)
        relay = os.path.join(directory, RELAY_NAME)
        write_private_file(directory, RELAY_NAME, self._program)
        node = {"half": "node", "token": token, "session_id": session_id, "viewer": viewer}
        python = shlex.quote(to_path(viewer["python"]))
        missing = '{"error": "NODE_PYTHON_NOT_FOUND", "message": "there is no such Python"}'
        write_private_file(
            directory,
            NODE_COMMAND_NAME,
            # Outside of what the scheduler hands on there is nothing in it to quote: two plain words.
            f"test -x {python} || {{ printf '\\n@@%s %s\\n' {token} '{missing}'; exit 127; }}\n"
            f"exec {python} -I -S {shlex.quote(relay)} node {_sent(node)}\n",
        )
        command = ["/bin/sh", to_text(os.path.join(directory, NODE_COMMAND_NAME))]
        at = self._template.index(_COMMAND_WORD)
        login = {
            "half": "login",
            "token": token,
            "node_token": token,
            "command": self._template[:at] + command + self._template[at + 1 :],
            "port": port,
            "directory": to_text(directory),
        }
        words = [sys.executable, "-I", "-S", relay, "login", _sent(login)]
        return [os.fsencode(word) for word in words]

    def check_exit(self, status: int, log_tail: "list[str]", viewer: "dict[str, Any]") -> None:
        """Raises `Failure` if the launch command is why the relay has ended."""
        if status == COMMAND_FAILED:
            raise Failure(
                "LAUNCH_COMMAND_FAILED",
                "the launch command (" + self._template[0] + ") did not start the viewer",
                log_tail=log_tail,
            )
        if status == NODE_FAILED:
            raise Failure(
                "NODE_PYTHON_NOT_FOUND",
                "the compute node has no " + viewer["python"],
                log_tail=log_tail,
            )

    def what_is_late(self, directory: str) -> str:
        """The beginning of a sentence about a start that takes too long."""
        node = node_of(directory)
        if node is None:
            return "The launch command (" + self._template[0] + ") did not reach a compute node"
        return "The viewer on " + node + " did not listen"


def node_of(directory: str) -> "str | None":
    """The compute node that a viewer is on, or is being started on; None if it is on none (yet)."""
    return read_private_file(directory, NODE_NAME, 300) or None


def forget_node(directory: str) -> None:
    """The next start may lead to another node."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, NODE_NAME))


def _sent(arguments: "dict[str, Any]") -> str:
    """Arguments as `common.run` reads them: one word that means nothing to any shell."""
    text = json.dumps(arguments).encode("ascii")
    return binascii.b2a_base64(zlib.compress(text), newline=False).decode("ascii")
