"""What happens by itself, told to whoever wants to know: the audit log and the metrics."""

from __future__ import annotations

from typing import Protocol

from runicorn_remote.services.audit import Audit
from runicorn_remote.services.metrics import Metrics
from runicorn_remote.services.viewer_session import ViewerSession


class Report(Protocol):
    """`report("link.lost", code, connection_id=…)`, `report.on(session, "viewer.reconnected")`.

    Any thread; never raises.
    """

    def __call__(self, event: str, result: str = "ok", /, **target: str | int) -> None: ...

    def on(self, session: ViewerSession, event: str, result: str = "ok", /) -> None: ...


class Reports:
    """Writes an event down and counts it. Events and results are few and ours; targets are not counted."""

    def __init__(self, audit: Audit, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def __call__(self, event: str, result: str = "ok", /, **target: str | int) -> None:
        self._metrics.events.labels(event, result).inc()
        self._audit.write(event, result, target=target)

    def on(self, session: ViewerSession, event: str, result: str = "ok", /) -> None:
        """What has happened to one session."""
        self(event, result, connection_id=session.target.connection_id, session_id=session.id)
