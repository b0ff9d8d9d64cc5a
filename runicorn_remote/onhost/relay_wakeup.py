"""Signals and ends of children, as something to select. Runs on the remote machine: Python >= 3.6."""

import contextlib
import os
import signal


class RelayWakeup:
    """`descriptor` can be read from after each signal. For the main thread."""

    def __init__(self) -> None:
        self.asked_to_end = False
        self.descriptor, self._writing = os.pipe()
        for descriptor in (self.descriptor, self._writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._writing)
        signal.signal(signal.SIGCHLD, _only_wake)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._note)

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 4096)

    def _note(self, number: int, frame: object) -> None:
        self.asked_to_end = True


def _only_wake(number: int, frame: object) -> None:
    """A child has ended; whoever selects looks which."""
