"""One attempt to bring viewers back whose link is lost: a login, and what comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeGuard

from runicorn_remote.errors import (
    AuthenticationFailed,
    HostKeyConfirmationRequired,
    HostKeyRevoked,
    InvalidValue,
    LinkLost,
    NoCommonAlgorithm,
    RemoteError,
    TargetForbidden,
)
from runicorn_remote.services.launcher import Launcher, ProcessState
from runicorn_remote.services.reports import Report
from runicorn_remote.services.session_holdings import SessionHoldings
from runicorn_remote.services.session_registry import SessionRegistry
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.target import Credentials, Target

logger = logging.getLogger(__name__)

NEEDS_CREDENTIALS = "NEEDS_CREDENTIALS"
# Failures that no waiting mends.
_REFUSED = (
    HostKeyConfirmationRequired,
    AuthenticationFailed,
    HostKeyRevoked,
    NoCommonAlgorithm,
    TargetForbidden,
)
_HOLDER = "recovery"


class ReconnectAttempt:
    """Stateless; called in the threads `reconnect-<host>`. Waits for the host."""

    def __init__(
        self,
        registry: SessionRegistry,
        holdings: SessionHoldings,
        launcher: Launcher,
        *,
        reopen: Callable[[Target, Credentials, str], RemoteHost],
        release: Callable[[RemoteHost, str], None],
        link_lost: Callable[[RemoteHost, LinkLost], None],
        process_gone: Callable[[ViewerSession, ProcessState], None],
        report: Report,
    ) -> None:
        """`reopen` opens (or reuses) a connection; its last argument holds it until `release`.

        `link_lost`, `process_gone`: told of the new link's end, and of a viewer that has ended meanwhile.
        """
        self._registry = registry
        self._holdings = holdings
        self._launcher = launcher
        self._reopen = reopen
        self._release = release
        self._link_lost = link_lost
        self._process_gone = process_gone
        self._report = report

    def run(self, waiting: list[ViewerSession]) -> bool:
        """One login for the first session and all that share its credentials. False: try again later.

        `waiting`: sessions of one host, one at least; who needs a person becomes `disconnected`.
        """
        credentials = waiting[0].credentials
        alike = [session for session in waiting if session.credentials == credentials and self._bind(session)]
        if not alike:
            return True
        if credentials is None:
            self._give_up(alike, None, "The credentials are not stored; connect to the host again")
            return True
        try:
            host = self._reopen(alike[0].target, credentials, _HOLDER)
        except _REFUSED as error:
            detail = error.detail if isinstance(error.detail, dict) else None
            self._give_up(alike, credentials, str(error), error.code, detail)
            return True
        except InvalidValue as error:  # the key file: it is gone, or wants a passphrase
            self._give_up(alike, credentials, str(error))
            return True
        except RemoteError as error:
            self._still_lost(alike, error)
            return False
        try:
            self._bring_back(host, alike)
        except RemoteError as error:
            logger.warning("%s: logged in, and got no answer about the viewers: %s", host.target, error)
            self._still_lost(alike, error)
            if is_loss(error):
                self._link_lost(host, error)
            return False
        finally:
            self._release(host, _HOLDER)
        return True

    def _give_up(
        self,
        sessions: list[ViewerSession],
        tried: Credentials | None,
        reason: str,
        code: str = NEEDS_CREDENTIALS,
        detail: dict[str, Any] | None = None,
    ) -> None:
        for session in sessions:
            # Somebody may have brought others while these were tried.
            if session.credentials == tried and session.give_up(reason, code, detail):
                logger.warning("Session %s on %s waits for a person: %s", session.id, session.target, reason)
                self._report.on(session, "viewer.disconnected", code)
        self._registry.remember()

    def _still_lost(self, sessions: list[ViewerSession], error: RemoteError) -> None:
        for session in sessions:
            session.still_lost(str(error), error.code)

    def _bind(self, session: ViewerSession) -> bool:
        """After a restart of this server the local port may be somebody else's."""
        try:
            self._holdings.bind(session)
        except RemoteError as error:
            session.give_up(str(error), error.code)
            return False
        return True

    def _bring_back(self, host: RemoteHost, sessions: list[ViewerSession]) -> None:
        """Ask for all processes at once, and attach those that live."""
        sessions = [session for session in sessions if self._holdings.hold(session, host)]
        if not sessions:
            return
        states = self._launcher.process_states(host, {session.id: session.process for session in sessions})
        for session in sessions:
            state = states[session.id]
            if not state.alive:
                self._process_gone(session, state)
            elif session.reconnected():
                process = session.process
                if process is not None and session.tunnel is not None:
                    session.tunnel.attach(host.transport, process.port)
                logger.info("Session %s on %s is back", session.id, session.target)
                self._report.on(session, "viewer.reconnected")
        self._registry.remember()


def is_loss(error: RemoteError) -> TypeGuard[LinkLost]:
    """Whether the connection is of no use any more."""
    return isinstance(error, LinkLost) and not error.has_answered
