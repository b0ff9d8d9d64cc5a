"""The pool of live connections, keyed by target *and* identity.

A connection belongs to its holders (the user, each viewer session); the last one to let go closes
it. Opening is single flight per target: two requests never race on one host, and other hosts never
wait. Nesting order of the locks: a target's, then the pool's; nothing is done over the network
under the pool's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from runicorn_remote.errors import Busy, LinkLost
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target

logger = logging.getLogger(__name__)

Key = tuple[Target, str]
Opener = Callable[[Target, Credentials], RemoteHost]


@dataclass
class _Slot:
    host: RemoteHost
    holders: set[str] = field(default_factory=set)


class _TargetLock:
    """A lock that a weak dictionary can hold."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class ConnectionPool:
    """Thread-safe; starts no thread of its own."""

    def __init__(
        self,
        opener: Opener,
        *,
        open_timeout: float,
        check_timeout: float,
        max_connections: int,
    ) -> None:
        """`opener` logs in and may take up to `open_timeout` seconds, as long as others wait for it."""
        self._opener = opener
        self._open_timeout = open_timeout
        self._check_timeout = check_timeout
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._slots: dict[Key, _Slot] = {}
        self._target_locks: WeakValueDictionary[Target, _TargetLock] = WeakValueDictionary()
        self._closed = False

    def open(
        self,
        target: Target,
        credentials: Credentials,
        holder: str,
        opener: Opener | None = None,
        *,
        for_command: bool = False,
    ) -> RemoteHost:
        """The live connection of this identity, logging in if there is none. `holder` holds it afterwards.

        `opener`: how, if not as the pool always does. `for_command`: a command follows at once, and gets
        the channel that proved the connection alive.

        Raises what the opener raises, or `Busy` when the host is being logged in to for too long or
        the pool is full.
        """
        with self._lock:
            target_lock = self._target_locks.setdefault(target, _TargetLock())
        if not target_lock.lock.acquire(timeout=self._open_timeout):
            raise Busy(f"Another login to {target} is still under way", code="LOGIN_IN_PROGRESS")
        try:
            host = self._reuse((target, credentials.identity), holder, for_command)
            return host or self._open(target, credentials, holder, opener or self._opener)
        finally:
            target_lock.lock.release()

    def hold(self, host: RemoteHost, holder: str) -> None:
        """Add a holder to a connection that is in the pool. Raises `LinkLost` if it no longer is."""
        with self._lock:
            slot = self._slots.get((host.target, host.identity))
            if slot is None or slot.host is not host:
                raise LinkLost(f"The SSH connection to {host.target} is lost")
            slot.holders.add(holder)

    def release(self, host: RemoteHost, holder: str) -> None:
        """Let go; the connection is closed when nobody holds it any more. Unknown holders are ignored."""
        key = (host.target, host.identity)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.host is not host:
                return
            slot.holders.discard(holder)
            if slot.holders:
                return
            del self._slots[key]
        host.close()
        logger.info("Disconnected from %s", host.target)

    def close(self) -> None:
        """Close everything. Connections that are still being opened are closed when they are."""
        with self._lock:
            self._closed = True
            hosts = [slot.host for slot in self._slots.values()]
            self._slots.clear()
        for host in hosts:
            host.close()

    def __len__(self) -> int:
        with self._lock:
            return len(self._slots)

    def _reuse(self, key: Key, holder: str, for_command: bool) -> RemoteHost | None:
        """The connection at `key` if the far side still answers; else it is dropped."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return None
            # Held while we look, so that nobody's release closes it under us.
            fresh = holder not in slot.holders
            slot.holders.add(holder)
        try:
            slot.host.check(self._check_timeout, keep=for_command)
            return slot.host
        except LinkLost as error:
            if error.has_answered:
                return slot.host
            logger.info("The connection to %s is dropped: %s", slot.host.target, error.reason)
        except Busy:
            # So much is going on over it that it is alive.
            return slot.host
        except BaseException:
            if fresh:
                self.release(slot.host, holder)
            raise
        with self._lock:
            if self._slots.get(key) is slot:
                del self._slots[key]
        slot.host.close()
        return None

    def _open(self, target: Target, credentials: Credentials, holder: str, opener: Opener) -> RemoteHost:
        if len(self) >= self._max_connections:
            raise Busy("The limit of SSH connections is reached", code="TOO_MANY_CONNECTIONS")
        host = opener(target, credentials)
        with self._lock:
            if not self._closed:
                self._slots[(target, credentials.identity)] = _Slot(host, {holder})
                return host
        host.close()
        raise LinkLost("The server is shutting down")
