"""One start of a viewer, from the fork to the first listen. Runs on the remote machine: Python >= 3.6."""

import os
import re
import select
import signal
import subprocess
import sys
import time

from runicorn_remote.onhost.common import Failure, emit
from runicorn_remote.onhost.listeners import free_port, listens
from runicorn_remote.onhost.node_launch import NodeLaunch, node_of
from runicorn_remote.onhost.private_files import (
    LOG_NAME,
    host_name,
    log_tail,
    open_log,
    private_dir,
    read_record,
    remove_private_dir,
    to_text,
    write_record,
)
from runicorn_remote.onhost.processes import end_group, is_ours, kill_orphans, start_time
from runicorn_remote.onhost.viewer_command import viewer_command, viewer_environ

_PORT_TAKEN = re.compile(r"address already in use|\[Errno (?:98|48)\]", re.IGNORECASE)
# Seconds until looks at the port, of 0.1 ms each, become fewer than one in 5 ms.
_SOON = 10.0
# Seconds a viewer has to end itself when its start is taken back.
_END_TIMEOUT = 3.0


class ReaderGone(Exception):
    """Nobody reads our answers any more: the start was cancelled, or the connection is gone."""


class ViewerStart:
    """The private directory and one process at a time, until the viewer listens or `close` takes all back.

    `root` is a path of this machine, `environment` what `find_one` gives, `idle_timeout` in seconds or None,
    `server` the mark of the server that asks (see `sweep`). With `node_launch` the viewer runs on a compute
    node, and the process here is the relay to it.
    """

    def __init__(
        self,
        session_id: str,
        root: str,
        environment: dict,
        port: int,
        idle_timeout: "float | None",
        server: "str | None",
        node_launch: "NodeLaunch | None" = None,
    ) -> None:
        self._session_id = session_id
        self._viewer = {
            "python": environment["python"],
            "runicorn": environment["runicorn"],
            "root": to_text(root),
            "idle_timeout": idle_timeout,
        }
        self._port = port
        self._server = server
        self._node_launch = node_launch
        self._child: subprocess.Popen[bytes] | None = None
        self._started: str | None = None
        self._handed_over = False
        self._signalled = False
        self._directory = private_dir(session_id)
        self._refuse_a_second_viewer()

    def run(self, timeout: float, ports_tried: int) -> None:
        """Launch and watch, with another port if one is lost; tells all events but `prepared`.

        Raises `Failure` VIEWER_START_TIMEOUT after `timeout` seconds, and `ReaderGone`.
        """
        # Only noted: an exception in the middle of a fork would leave a process nobody knows.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._note_signal)
        began = time.monotonic()
        for ports_left in reversed(range(ports_tried)):
            child = self._launch()
            status = self._watch(child, began + timeout)
            if status is None:
                seconds = round(time.monotonic() - began, 3)
                node = node_of(self._directory) if self._node_launch else None
                self.tell(event="listening", port=self._port, pid=child.pid, seconds=seconds, node=node)
                self._handed_over = True
                return
            kill_orphans(child.pid)
            if self._node_launch:
                self._node_launch.check_exit(status, self._log_tail(), self._viewer)
            # Anybody may take the port between our look and the viewer's bind.
            if not ports_left or not _PORT_TAKEN.search("\n".join(self._log_tail())):
                self.tell(event="exited", status=status, log_tail=self._log_tail())
                return
            self._port = free_port()

    def tell(self, **event: object) -> None:
        """Send one event. Raises `ReaderGone`."""
        try:
            emit(event)
        except OSError:
            raise ReaderGone() from None

    def close(self) -> None:
        """Unless the viewer listens: end its processes and remove its files."""
        if self._handed_over:
            return
        if self._child is not None:
            end_group(self._child.pid, self._started, _END_TIMEOUT)
            self._child.poll()
        remove_private_dir(self._directory, self._session_id)

    def _launch(self) -> "subprocess.Popen[bytes]":
        if self._node_launch:
            command = self._node_launch.command(self._directory, self._session_id, self._port, self._viewer)
        else:
            command = viewer_command(self._viewer, self._port)
        log = open_log(self._directory)
        try:
            # With -m Python imports from the working directory first: in ours nobody can plant a module.
            child = subprocess.Popen(
                command,
                cwd=self._directory,
                env=viewer_environ(self._directory, self._session_id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._child, self._started = child, start_time(child.pid)
        write_record(
            self._directory,
            {
                "session_id": self._session_id,
                "server": self._server,
                "pid": child.pid,
                "start_time": self._started,
                "port": self._port,
                "remote_root": self._viewer["root"],
                "python": self._viewer["python"],
                "hostname": host_name(),
                "launched_at": int(time.time() * 1000),
            },
        )
        self.tell(
            event="launched",
            pid=child.pid,
            start_time=self._started,
            port=self._port,
            directory=to_text(self._directory),
        )
        return child

    def _watch(self, child: "subprocess.Popen[bytes]", deadline: float) -> "int | None":
        """None as soon as the viewer listens, its exit status if it ends."""
        pause = 0.005
        began = time.monotonic()
        next_test = began + 1.0
        reader = select.poll()
        reader.register(1, 0)  # Errors and hang-ups are told without being asked for.
        while True:
            status = child.poll()
            if status is not None or listens(self._port, child.pid):
                return status
            now = time.monotonic()
            if now >= deadline:
                raise Failure(
                    "VIEWER_START_TIMEOUT", self._what_is_late() + " in time", log_tail=self._log_tail()
                )
            if self._signalled:
                raise Failure("START_CANCELLED", "The start was interrupted on the host")
            if now >= next_test:
                next_test = now + 1.0
                _test_reader()
            # Nothing wakes us when another process begins to listen, so this has to poll. The time
            # between two looks is spent where a reader that goes away is noticed at once.
            if reader.poll(int(pause * 1000)):
                raise ReaderGone()
            if now - began > _SOON:
                pause = min(pause * 1.5, 0.05)

    def _refuse_a_second_viewer(self) -> None:
        record = read_record(self._directory)
        pid = record.get("pid")
        if isinstance(pid, int) and is_ours(pid, record.get("start_time")):
            raise Failure("VIEWER_RUNNING", f"A viewer of this session is already running (process {pid})")

    def _what_is_late(self) -> str:
        if self._node_launch:
            return self._node_launch.what_is_late(self._directory)
        return f"The viewer did not listen on port {self._port}"

    def _note_signal(self, number: int, frame: object) -> None:
        self._signalled = True

    def _log_tail(self) -> "list[str]":
        return log_tail(os.path.join(self._directory, LOG_NAME))


def _test_reader() -> None:
    # For systems whose poll() says nothing about the other end of a pipe.
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        raise ReaderGone() from None
