"""The half of the relay on the login node. Runs on the remote machine: Python >= 3.6, standard library.

It runs the launch command, which starts the other half on a compute node, and then listens on
127.0.0.1 where a viewer would. Its standard output and error are the viewer's log.
"""

import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from typing import Any

from runicorn_remote.onhost.frames import ENDED, READY
from runicorn_remote.onhost.listeners import LOOPBACK
from runicorn_remote.onhost.multiplexer import Multiplexer
from runicorn_remote.onhost.node_files import COMMAND_FAILED, NODE_FAILED, NODE_NAME
from runicorn_remote.onhost.peer_owner import is_of_own_user
from runicorn_remote.onhost.private_files import to_path, write_private_file
from runicorn_remote.onhost.relay_wakeup import RelayWakeup

_COMMAND_LOST = 122
_TURN = 5.0
# Seconds the command has to end when its input has; then from SIGTERM to SIGKILL. The server's `stop`
# kills the whole group after 10.
_END_TIMEOUT = 6.0
_KILL_AFTER = 1.5
_MOST_NOISE = 64 * 1024


class RelayLogin:
    """`command` is the launch command, `port` the one to listen on, `directory` the viewer's own."""

    def __init__(self, command: "list[str]", port: int, directory: str, token: str) -> None:
        self._command = [os.fsencode(to_path(word)) for word in command]
        self._directory = directory
        self._marker = ("\n@@" + token + " ").encode()
        self._before = b"\n"
        self._status: int | None = None
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # As the viewer's own server does: a port whose last connections only linger is free.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Ours from now on. Nobody is let in before the viewer listens.
        self._listener.bind((LOOPBACK, port))
        self._listener.setblocking(False)
        self._wakeup = RelayWakeup()

    def run(self) -> int:
        """Until the viewer, the command or we are to end. Returns our exit status."""
        try:
            # Of our process group, so that whoever kills that leaves nothing.
            child = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            program = self._command[0].decode("utf-8", "replace")
            _log(program + ": " + (error.strerror or str(error)))
            return COMMAND_FAILED
        assert child.stdin is not None
        assert child.stdout is not None
        status = COMMAND_FAILED
        try:
            status = self._greet(child.stdout.fileno())
            if status == 0:
                status = self._relay(child.stdout.fileno(), child.stdin.fileno())
        finally:
            child.stdin.close()
            child.stdout.close()
            command_status = _end(child)
        if status == _COMMAND_LOST:
            _log(f"the launch command ended (exit status {command_status})")
        return status

    def _greet(self, incoming: int) -> int:
        """Wait for the other half's first line; what comes before goes to the log. 0: it is there."""
        poller = select.poll()
        poller.register(incoming, select.POLLIN)
        poller.register(self._wakeup.descriptor, select.POLLIN)
        noise = 0
        while not self._wakeup.asked_to_end:
            ready = {descriptor for descriptor, _ in poller.poll(_TURN * 1000)}
            if self._wakeup.descriptor in ready:
                self._wakeup.drain()
            if incoming not in ready:
                continue
            data = os.read(incoming, 65536)
            if not data:
                break
            noise += len(data)
            line = self._first_line(data)
            if line is not None:
                return self._heard(line)
            if noise > _MOST_NOISE:
                _log("the launch command prints without end")
                break
        os.write(2, self._before[1:])
        return COMMAND_FAILED

    def _first_line(self, data: bytes) -> "bytes | None":
        """What stands behind the marker, once that line is whole. Whole lines before it go to the log."""
        # Begins with a line end that is in the log already: the marker does too.
        self._before += data
        at = self._before.find(self._marker)
        if at < 0:
            at = self._before.rfind(b"\n")
        os.write(2, self._before[1 : at + 1])
        self._before = self._before[at:]
        if not self._before.startswith(self._marker) or b"\n" not in self._before[1:]:
            return None
        line, _, self._before = self._before[len(self._marker) :].partition(b"\n")
        return line

    def _heard(self, line: bytes) -> int:
        try:
            said = json.loads(line.decode("ascii"))
            node = said.get("node")
        except (ValueError, AttributeError):
            node, said = None, {}
        if not isinstance(node, str):
            _log("the compute node: " + str(said.get("message") or line.decode("ascii", "replace")))
            return NODE_FAILED if said.get("error") == "NODE_PYTHON_NOT_FOUND" else COMMAND_FAILED
        node = re.sub(r"[^A-Za-z0-9._-]", "_", node)[:253]
        write_private_file(self._directory, NODE_NAME, node)
        return 0

    def _relay(self, incoming: int, outgoing: int) -> int:
        streams = Multiplexer(incoming, outgoing, on_message=self._on_message)
        self._streams = streams
        streams.watch(self._wakeup.descriptor, self._wakeup.drain)
        streams.receive(self._before)
        try:
            while streams.ended is None and self._status is None and not self._wakeup.asked_to_end:
                streams.turn(_TURN)
        finally:
            self._listener.close()
            streams.close()
        if self._status is not None:
            return self._status
        if not self._wakeup.asked_to_end:
            _log(str(streams.ended))
        return _COMMAND_LOST

    def _on_message(self, kind: int, number: int) -> None:
        if kind == READY:
            self._listener.listen(128)
            self._streams.watch(self._listener, self._accept)
        elif kind == ENDED:
            self._status = min(number, COMMAND_FAILED - 1)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if is_of_own_user(sock):
            self._streams.add(sock)
        else:
            sock.close()


def relay_login(arguments: "dict[str, Any]") -> None:
    """`command`, `port`, `directory`: as for `RelayLogin`; `token`: what the other half's first line has."""
    try:
        relay = RelayLogin(
            arguments["command"], arguments["port"], to_path(arguments["directory"]), arguments["node_token"]
        )
    except OSError as error:  # The words make the launcher try another port.
        _log(str(error))
        sys.exit(1)
    sys.exit(relay.run())


def _end(child: "subprocess.Popen[bytes]") -> int:
    """Its input has ended, which ends the other half. Then it is told, then killed. Returns its status."""
    for end, patience in ((None, _END_TIMEOUT), (child.terminate, _KILL_AFTER), (child.kill, None)):
        if end is not None:
            end()
        try:
            return child.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    return -1


def _log(text: str) -> None:
    line = time.strftime("%Y-%m-%d %H:%M:%S") + " - runicorn-remote - " + text + "\n"
    os.write(2, line.encode("utf-8", "replace"))
