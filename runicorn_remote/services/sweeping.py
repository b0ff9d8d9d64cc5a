"""Ends viewers of ours that no session knows: what a crash of this server may leave on a host."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runicorn_remote.errors import RemoteError
from runicorn_remote.services.launcher import Launcher
from runicorn_remote.services.reports import Report
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.ssh.host import RemoteHost

logger = logging.getLogger(__name__)


class Sweeper:
    """Stateless; may be called from any thread. Waits for the host."""

    def __init__(
        self, registry: SessionRegistry, launcher: Launcher, *, server_id: Callable[[], str], report: Report
    ) -> None:
        """`server_id`: the mark of our viewers on their hosts."""
        self._registry = registry
        self._launcher = launcher
        self._server_id = server_id
        self._report = report

    def sweep(self, host: RemoteHost) -> None:
        try:
            found = self._launcher.viewers_of(host, self._server_id())
            # Looked at after the host was: a viewer that is being started has its session already.
            known = {session.id for session in self._registry.sessions()}
            for session_id in found.keys() - known:
                self._launcher.stop(host, session_id, found[session_id])
                logger.warning("%s: ended the forgotten viewer %s", host.target, session_id)
                self._report("viewer.swept", connection_id=host.target.connection_id, session_id=session_id)
        except RemoteError as error:
            logger.info("%s was not searched for forgotten viewers: %s", host.target, error)
