"""What the web page remembers about itself: dismissed hints and column widths.

Kept in Runicorn's own `ui_preferences.json`, so that a hint dismissed in its built-in server stays
dismissed here. Losing it costs a click; so an unreadable file counts as empty, and is left alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runicorn_remote.errors import Busy, StateError
from runicorn_remote.services.private_files import (
    make_private_directory,
    read_private,
    state_lock,
    write_private,
)

logger = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_MAX_DISMISSED = 1000
_LOCK_TIMEOUT = 5.0


class UiPreferences:
    """Thread-safe, and safe beside a running Runicorn: read anew each time, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def dismissed_alerts(self) -> list[str]:
        alerts = self._read().get("dismissed_alerts")
        return [alert for alert in alerts if isinstance(alert, str)] if isinstance(alerts, list) else []

    def dismiss(self, alert_id: str) -> None:
        """Raises `StateError`."""

        def change(alerts: list[str]) -> list[str]:
            if len(alerts) >= _MAX_DISMISSED:
                raise Busy("Too many dismissed alerts; clear them first", code="TOO_MANY_ALERTS")
            return alerts if alert_id in alerts else [*alerts, alert_id]

        self._change_alerts(change)

    def undismiss(self, alert_id: str) -> None:
        self._change_alerts(lambda alerts: [alert for alert in alerts if alert != alert_id])

    def clear_dismissed(self) -> None:
        self._change_alerts(lambda alerts: [])

    def column_widths(self, table: str, size: str) -> dict[str, int]:
        entry = _dict(_dict(self._read(), "column_widths"), f"{table}@{size}")
        return {
            name: width
            for name, width in _dict(entry, "widths").items()
            if isinstance(width, int) and not isinstance(width, bool)
        }

    def save_column_widths(self, table: str, size: str, widths: dict[str, int]) -> None:
        def change(preferences: dict[str, Any]) -> None:
            tables = dict(_dict(preferences, "column_widths"))
            tables[f"{table}@{size}"] = {"widths": widths}
            preferences["column_widths"] = tables

        self._change(change)

    def _change_alerts(self, change: Callable[[list[str]], list[str]]) -> None:
        def apply(preferences: dict[str, Any]) -> None:
            preferences["dismissed_alerts"] = change(self.dismissed_alerts())

        self._change(apply)

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        make_private_directory(self._path.parent)
        with state_lock(self._path, _LOCK_TIMEOUT):
            preferences = self._read()
            change(preferences)
            write_private(self._path, json.dumps(preferences, indent=2).encode())

    def _read(self) -> dict[str, Any]:
        try:
            data = read_private(self._path, _MAX_BYTES)
            preferences = json.loads(data) if data else {}
        except (StateError, ValueError, RecursionError) as error:
            logger.warning("%s cannot be read: %s", self._path, error)
            return {}
        return preferences if isinstance(preferences, dict) else {}


def _dict(container: dict[str, Any], name: str) -> dict[str, Any]:
    value = container.get(name)
    return value if isinstance(value, dict) else {}
