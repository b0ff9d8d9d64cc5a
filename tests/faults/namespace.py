"""A host behind a cable that can be pulled: a network namespace and a pair of virtual interfaces."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import sys
from types import TracebackType

_TIMEOUT = 10.0


@functools.cache
def why_not() -> str | None:
    """What this machine lacks for it; None: nothing."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip is not installed (Debian: iproute2)"
    try:
        with NetworkNamespace():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces do not work here: {error.stderr.decode(errors='replace').strip()}"


class NetworkNamespace:
    """`prefix` runs a command inside it; `host` is its address, seen from here."""

    def __init__(self) -> None:
        mark = secrets.token_hex(4)
        self._name = f"faults-{mark}"
        self._here, self._there = f"fa{mark}", f"fb{mark}"
        number = secrets.randbelow(16000)
        network = f"10.{213 + number // 8000}.{number // 64 % 125}"
        lowest = number % 64 * 4
        self._address = f"{network}.{lowest + 1}/30"
        self.host = f"{network}.{lowest + 2}"
        self.prefix = ("ip", "netns", "exec", self._name)

    def __enter__(self) -> NetworkNamespace:
        try:
            _run("ip", "netns", "add", self._name)
            _run("ip", "link", "add", self._here, "type", "veth", "peer", "name", self._there)
            _run("ip", "link", "set", self._there, "netns", self._name)
            _run("ip", "address", "add", self._address, "dev", self._here)
            _run("ip", "link", "set", self._here, "up")
            _run(*self.prefix, "ip", "address", "add", f"{self.host}/30", "dev", self._there)
            _run(*self.prefix, "ip", "link", "set", "lo", "up")
            self.restore()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cut(self) -> None:
        """Pull the cable at the host's end: packets vanish, and nobody is told."""
        _run(*self.prefix, "ip", "link", "set", self._there, "down")

    def restore(self) -> None:
        _run(*self.prefix, "ip", "link", "set", self._there, "up")

    def close(self) -> None:
        for command in (("link", "delete", self._here), ("netns", "delete", self._name)):
            subprocess.run(["ip", *command], capture_output=True, timeout=_TIMEOUT, check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)
