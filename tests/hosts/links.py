"""Lost links, and nothing else lost: what a viewer's host sees when the network goes away."""

from __future__ import annotations

import contextlib
import os
import signal

from tests.hosts.sshd import SshServer, _descendants


def cut_links(server: SshServer) -> None:
    """End the connections of a server; it listens on, and what has detached itself lives on.

    Parents come first, so that no sshd is left to say how its command ended.
    """
    assert server._process is not None
    for pid in sorted(_descendants(server._process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
