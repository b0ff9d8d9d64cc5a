"""The host keys that handshakes have shown of late and that wait for a person's decision.

Only such a key can be accepted. Otherwise whoever may send a request could plant the key of a host
of their own under another's name, before anybody connects there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runicorn_remote.clock import Clock
from runicorn_remote.errors import HostKeyConfirmationRequired, HostKeyNotSeen, HostKeyProblem
from runicorn_remote.ssh.known_hosts import HostKey, Verdict
from runicorn_remote.ssh.known_hosts_match import lowered

REMEMBERED_FOR = 600.0  # seconds: time to ask an administrator for the fingerprint
_MOST = 1000

_Key = tuple[str, int, str]


@dataclass(frozen=True)
class _Challenge:
    expected: str | None  # the stored key it was compared with, `type base64`
    until: float


class SeenHostKeys:
    """Challenges by host, port and key, in memory only. May be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._challenges: OrderedDict[_Key, _Challenge] = OrderedDict()

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Around a login: if it asks about a key, that key has been seen."""
        try:
            yield
        except HostKeyConfirmationRequired as error:
            self.remember(error.problem)
            raise

    def remember(self, problem: HostKeyProblem) -> None:
        """A handshake has shown this key, and a person is asked about it."""
        key = _key(problem.host, problem.port, problem.public_key)
        challenge = _Challenge(problem.expected_public_key, self._clock.monotonic() + REMEMBERED_FOR)
        with self._lock:
            self._challenges.pop(key, None)
            self._challenges[key] = challenge
            while len(self._challenges) > _MOST:
                self._challenges.popitem(last=False)

    def check(self, host: str, port: int, key: HostKey, verdict: Verdict) -> None:
        """Whether a person has been asked about just this. `verdict`: what the stored keys say now.

        Raises `HostKeyNotSeen`: also if another key is stored by now than the one they were told
        would be replaced.
        """
        with self._lock:
            challenge = self._challenges.get(_key(host, port, str(key)))
        if challenge is None or self._clock.monotonic() > challenge.until:
            raise HostKeyNotSeen("No handshake has shown this key in the last 10 minutes")
        # Nothing stored any more is fine: then nothing is replaced.
        if verdict.expected is not None and str(verdict.expected) != challenge.expected:
            raise HostKeyNotSeen("Another key has been accepted for this host since")

    def forget(self, host: str, port: int, key: HostKey) -> None:
        """It was accepted: one question, one answer."""
        with self._lock:
            self._challenges.pop(_key(host, port, str(key)), None)


def _key(host: str, port: int, public_key: str) -> _Key:
    return lowered(host), port, public_key
