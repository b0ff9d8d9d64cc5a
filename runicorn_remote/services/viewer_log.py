"""What viewers log on their hosts: read when it is asked for, and remembered for when it cannot be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runicorn_remote import onhost
from runicorn_remote.clock import Clock
from runicorn_remote.errors import Conflict, LinkLost, NotFound, RemoteCommandFailed, RemoteError
from runicorn_remote.ssh.host import RemoteHost

if TYPE_CHECKING:
    from runicorn_remote.services.viewer_session import ViewerSession

logger = logging.getLogger(__name__)

MOST_LINES = 1000
_LONGEST_LINE = 300
# What each session remembers.
_KEPT_LINES = 100


@dataclass(frozen=True)
class LogTail:
    """The last lines of a log, oldest first, as they were at `at` (ms since the epoch)."""

    lines: tuple[str, ...]
    at: int

    def shortened(self, lines: int) -> LogTail:
        return LogTail(self.lines[-lines:], self.at)


def tail(session: ViewerSession, lines: int, clock: Clock, timeout: float) -> dict[str, Any]:
    """`{"sessionId", "lines", "at" (ms), "live"}`: one round trip over the session's own connection.

    `live` is False for what was known before, which is what there is while the link is away and when the
    viewer is over. Raises, if nothing is known: `LinkLost`, `Conflict` before the launch, `NotFound`.
    """
    try:
        found = LogTail(_read(session, lines, timeout), clock.time_ms())
    except RemoteError as error:
        known = session.log
        if known is None:
            raise
        logger.debug("Session %s: its log as it was, for: %s", session.id, error)
        return _shown(session, known.shortened(lines), live=False)
    session.log = found.shortened(_KEPT_LINES)
    return _shown(session, found, live=True)


def _shown(session: ViewerSession, log: LogTail, *, live: bool) -> dict[str, Any]:
    return {"sessionId": session.id, "lines": list(log.lines), "at": log.at, "live": live}


def _read(session: ViewerSession, lines: int, timeout: float) -> tuple[str, ...]:
    host, process = session.host, session.process
    if process is None and session.is_starting:
        raise Conflict("The viewer is not launched yet", code="VIEWER_NOT_LAUNCHED")
    if process is None or not session.remains:
        raise _no_log()
    if host is None:
        raise LinkLost(f"The SSH connection to {session.target} is lost")
    return _ask(host, session.id, process.directory, lines, timeout)


def _ask(host: RemoteHost, session_id: str, directory: str, lines: int, timeout: float) -> tuple[str, ...]:
    program = onhost.build("viewer_log", {"session_id": session_id, "directory": directory, "lines": lines})
    result = host.run_script(program.script, timeout=timeout)
    try:
        answer = program.answer(result.stdout, result.stderr, result.exit_status)
    except RemoteCommandFailed as error:
        raise (_no_log() if error.code == "LOG_NOT_FOUND" else error) from error
    found = answer.get("lines")
    if not isinstance(found, list):
        raise onhost.bad_answer()
    return tuple(onhost.shown(str(line), _LONGEST_LINE) for line in found[-lines:])


def _no_log() -> NotFound:
    return NotFound("The viewer has no log (any more)", code="LOG_NOT_FOUND")
