"""Whether the server can do its work: what `/readyz` says. Takes no lock and asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runicorn_remote.services import Services

# The heartbeat may be late by so much: intervals, and seconds at least.
_LATE_INTERVALS = 3
_LATE_AT_LEAST = 15.0


def reasons_against(services: Services) -> list[str]:
    """Sentences; none: it is ready."""
    if services.shutting_down:
        return ["The server is shutting down."]
    if not services.started:
        return ["The server has not started yet."]
    reasons = []
    if not services.session_store.claimed:
        reasons.append(
            "The state directory is not this server's: sessions are not remembered. The log says why."
        )
    heartbeat, age = services.heartbeat, services.heartbeat.age()
    if not heartbeat.alive:
        reasons.append("The heartbeat has ended: nobody looks after viewers.")
    elif age is not None and age > max(
        _LATE_AT_LEAST, _LATE_INTERVALS * services.settings.heartbeat_interval
    ):
        reasons.append(f"The heartbeat is late: the last one was {age:.0f} seconds ago.")
    return reasons
