"""One thread's events: files that are ready, work from other threads, and nothing else."""

from __future__ import annotations

import collections
import contextlib
import selectors
import socket
from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

File = socket.socket | int
Handler = Callable[[], None]


class EventLoop:
    """`post` is for any thread, all else for the thread that calls `turn`. No limit on descriptor numbers."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._keys: dict[int, selectors.SelectorKey] = {}  # by descriptor; quicker than the selector
        self._work: collections.deque[Callable[[], None]] = collections.deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._woken = False  # once it is, posting needs no system call
        self._closed = False
        self.watch(self._wake_in, READ, self._drain_wakers)

    def post(self, work: Callable[[], None]) -> None:
        """Have the loop's thread do `work`, in the order of posting. After `close`: nothing. Any thread."""
        if self._closed:
            return
        self._work.append(work)
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):  # full: it wakes up anyway; closed: it has ended
                self._wake_out.send(b"x")

    def watch(self, file: File, mask: int, handler: Handler) -> None:
        """Have `handler` called while `file` is ready for one of `mask`; 0 is none."""
        key = self._key_of(file)
        if key is not None and key.fileobj != file:
            # Another thread closed the file that had this number, before we could unwatch it.
            self._forget(key)
            key = None
        if key is None:
            if mask:
                self._remember(self._selector.register(file, mask, handler))
        elif not mask:
            self._forget(key)
        elif key.events != mask:
            self._remember(self._selector.modify(file, mask, handler))

    def unwatch(self, file: File) -> None:
        """No-op if it is not watched. Before closing the file."""
        key = self._key_of(file)
        if key is not None and key.fileobj == file:
            self._forget(key)

    def turn(self, patience: float | None) -> None:
        """Wait up to `patience` seconds (None: for ever) for something to do, and do it.

        Posted work goes first: a connection that is made after a `detach` finds the tunnel detached.
        """
        events = self._selector.select(0 if self._work else patience)
        self._woken = False
        for _ in range(len(self._work)):  # what this work posts waits, so that files get their turn
            self._work.popleft()()
        for key, _mask in events:
            if self._keys.get(key.fd) is key:  # nobody has changed his mind since
                key.data()

    def close(self) -> None:
        """Any thread, when no thread turns the loop any more."""
        self._closed = True
        self._work.clear()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _key_of(self, file: File) -> selectors.SelectorKey | None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if descriptor >= 0:
            return self._keys.get(descriptor)
        return next((key for key in self._keys.values() if key.fileobj is file), None)  # it has been closed

    def _remember(self, key: selectors.SelectorKey) -> None:
        self._keys[key.fd] = key

    def _forget(self, key: selectors.SelectorKey) -> None:
        del self._keys[key.fd]
        self._selector.unregister(key.fileobj)

    def _drain_wakers(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_in.recv(4096)
