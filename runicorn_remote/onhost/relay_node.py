"""The half of the relay on the compute node. Runs on the remote machine: Python >= 3.6, standard library.

It starts the viewer on the node's own loopback address, passes connections on to it, and writes what the
viewer logs to standard error. When its standard input ends, so does the viewer.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from typing import Any

from runicorn_remote.onhost.common import emit
from runicorn_remote.onhost.frames import ENDED, READY, numbered
from runicorn_remote.onhost.listeners import LOOPBACK, free_port, listens
from runicorn_remote.onhost.multiplexer import Multiplexer
from runicorn_remote.onhost.private_files import LOG_NAME, open_log
from runicorn_remote.onhost.processes import end_group, kill_orphans, start_time
from runicorn_remote.onhost.relay_wakeup import RelayWakeup
from runicorn_remote.onhost.viewer_command import viewer_command, viewer_environ

_TURN_RUNNING = 0.25
# While the viewer starts.
_TURN_STARTING = 0.05
_VIEWER_END_TIMEOUT = 4.0
_FLUSH_TIMEOUT = 2.0
_CHUNK = 64 * 1024


class FollowedLog:
    """Passes on what is appended to a file, as far as standard error takes it without a wait."""

    def __init__(self, path: str) -> None:
        self._stream = open(path, "rb")  # noqa: SIM115
        self._waiting = b""
        os.set_blocking(2, False)

    def pass_on(self) -> None:
        while True:
            self._waiting = self._waiting or self._stream.read(_CHUNK) or b""
            if not self._waiting:
                return
            try:
                written = os.write(2, self._waiting)
            except OSError:
                return
            self._waiting = self._waiting[written:]


class NodeViewer:
    """The viewer's process on this node and its files, which are gone with it."""

    def __init__(self, arguments: "dict[str, Any]") -> None:
        self.port = free_port()
        self._directory = tempfile.mkdtemp(prefix="runicorn-remote-node-")
        # The one that runicorn itself writes to, too.
        log = open_log(self._directory)
        try:
            # With -m Python imports from the working directory first: in ours nobody can plant a module.
            self.child = subprocess.Popen(
                viewer_command(arguments["viewer"], self.port),
                cwd=self._directory,
                env=viewer_environ(self._directory, arguments["session_id"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._started = start_time(self.child.pid)
        self._log = FollowedLog(os.path.join(self._directory, LOG_NAME))

    def listens(self) -> bool:
        return listens(self.port, self.child.pid)

    def pass_on_log(self) -> None:
        self._log.pass_on()

    def end(self) -> int:
        """End it if it has not, and remove its files. Returns its exit status."""
        if self.child.poll() is None:
            end_group(self.child.pid, self._started, _VIEWER_END_TIMEOUT)
        else:
            kill_orphans(self.child.pid)
        status = self.child.wait()
        self.pass_on_log()
        shutil.rmtree(self._directory, ignore_errors=True)
        return status


def relay_node(arguments: "dict[str, Any]") -> None:
    """`viewer`: what `viewer_command` takes; `session_id`. Serves until the viewer or our input ends."""
    wakeup = RelayWakeup()
    viewer = NodeViewer(arguments)
    listening = ended = False
    try:
        # From here on our output is frames.
        emit({"node": socket.gethostname()})
        streams = Multiplexer(0, 1, on_message=lambda kind, number: None, connect_to=(LOOPBACK, viewer.port))
        streams.watch(wakeup.descriptor, wakeup.drain)
        while streams.ended is None and not wakeup.asked_to_end and not ended:
            streams.turn(_TURN_RUNNING if listening else _TURN_STARTING)
            viewer.pass_on_log()
            if not listening and viewer.listens():
                listening = True
                streams.send(numbered(READY, 0, 0))
            ended = viewer.child.poll() is not None
    finally:
        status = viewer.end()
    if ended:
        streams.send(numbered(ENDED, 0, status if status >= 0 else 128 - status))
        streams.flush(_FLUSH_TIMEOUT)
    streams.close()
    # Nothing more is ours to say, and standard output does not wait any more.
    os._exit(0)
