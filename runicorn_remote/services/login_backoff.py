"""The pause after failed logins to one account, whoever asks.

sshd punishes the address that failed logins come from (`PerSourcePenalties`, since OpenSSH 9.8):
here that is the server's, and with it everybody who logs in from this machine. And whoever may send
a request must not be able to guess passwords at the speed of the network.

To mistype once or twice costs nothing. What has logged in before is let through, so that somebody
else's guesses do not keep a session from coming back. Hosts that cannot be reached do not count.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    AuthenticationFailed,
    InteractionImpossible,
    LoginBackoff,
    NothingToLogInWith,
)
from runicorn_remote.ssh.target import Target

FREE_FAILURES = 2
_FIRST_PAUSE = 1.0
_FORGOTTEN_AFTER = 900.0  # seconds since the last failure
_MOST = 1000


@dataclass
class _Account:
    failures: int = 0
    failed_at: float = -math.inf
    pause: float = 0.0
    proven: str = ""  # the identity that was let in last


class LoginAttempts:
    """Counts failures by account (user, host, port), in memory only. May be called from any thread.

    `longest`: seconds a pause grows to, 1, 2, 4, … from the third failure in a row on; 0: no pauses.
    """

    def __init__(self, clock: Clock, longest: float) -> None:
        self._clock = clock
        self._longest = longest
        self._lock = threading.Lock()
        self._accounts: OrderedDict[Target, _Account] = OrderedDict()

    @contextmanager
    def counting(self, target: Target, identity: str) -> Iterator[None]:
        """Around a login with the credentials `identity`. Raises `LoginBackoff` before it begins."""
        self.check(target, identity)
        try:
            yield
        except (NothingToLogInWith, InteractionImpossible):  # nothing was guessed
            raise
        except AuthenticationFailed:
            self.failed(target, identity)
            raise
        self.succeeded(target, identity)

    def check(self, target: Target, identity: str) -> None:
        """Before a login. Raises `LoginBackoff` while the account is to be left alone."""
        now = self._clock.monotonic()
        with self._lock:
            account = self._accounts.get(_key(target))
        if account is None or account.proven == identity:
            return
        left = account.failed_at + account.pause - now
        if left > 0:
            seconds = math.ceil(left)
            raise LoginBackoff(
                f"{account.failures} logins in a row to {target} have failed; the next one may be tried in "
                f"{seconds} s",
                retry_after=seconds,
            )

    def failed(self, target: Target, identity: str) -> None:
        """The host has refused these credentials."""
        now = self._clock.monotonic()
        with self._lock:
            account = self._touch(target)
            if now - account.failed_at > _FORGOTTEN_AFTER:
                account.failures = 0
            account.failures += 1
            account.failed_at = now
            beyond = account.failures - FREE_FAILURES
            # min() twice: a float has no room for 2**1024.
            account.pause = min(_FIRST_PAUSE * 2 ** min(beyond - 1, 30), self._longest) if beyond > 0 else 0.0
            if account.proven == identity:
                account.proven = ""

    def succeeded(self, target: Target, identity: str) -> None:
        with self._lock:
            account = self._touch(target)
            account.failures, account.pause, account.proven = 0, 0.0, identity

    def _touch(self, target: Target) -> _Account:
        """Holding the lock. The account used longest ago is forgotten, if there are too many."""
        key = _key(target)
        account = self._accounts.setdefault(key, _Account())
        self._accounts.move_to_end(key)
        if len(self._accounts) > _MOST:
            self._accounts.popitem(last=False)
        return account


def _key(target: Target) -> Target:
    """GPU1 and gpu1. are one host."""
    return Target(target.host.rstrip(".").lower(), target.port, target.username)
