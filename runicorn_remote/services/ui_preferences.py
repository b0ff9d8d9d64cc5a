"""What the web page remembers about itself: dismissed hints and column widths.

Kept in Runicorn's own `ui_preferences.json`, so that a hint dismissed in its built-in server stays
dismissed here. Losing it costs a click, so a file that cannot be read counts as empty; but it is never
overwritten.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import (
    read_private,
    state_lock,
    write_private,
)

logger = logging.getLogger(__name__)

_MAX_BYTES = 1024 * 1024
_LOCK_TIMEOUT = 5.0


class UiPreferences:
    """Thread-safe, and safe beside a running Runicorn: read anew each time, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A file of its own: taking a lock empties the file it is taken on.
        self._lock_path = path.with_name(f"{path.name}.lock")

    def dismissed_alerts(self) -> list[str]:
        return _alerts(self._read())

    def dismiss(self, alert_id: str) -> None:
        """This and every other change raises `StateError`."""

        def change(preferences: dict[str, Any]) -> None:
            alerts = _alerts(preferences)
            if alert_id not in alerts:
                preferences["dismissed_alerts"] = [*alerts, alert_id]

        self._change(change)

    def undismiss(self, alert_id: str) -> None:
        def change(preferences: dict[str, Any]) -> None:
            left = [alert for alert in _alerts(preferences) if alert != alert_id]
            preferences["dismissed_alerts"] = left

        self._change(change)

    def clear_dismissed(self) -> None:
        def change(preferences: dict[str, Any]) -> None:
            preferences["dismissed_alerts"] = []

        self._change(change)

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

    def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
        with state_lock(self._lock_path, _LOCK_TIMEOUT):
            preferences = self._load()
            change(preferences)
            data = json.dumps(preferences, indent=2).encode()
            if len(data) > _MAX_BYTES:
                raise StateError(f"{self._path} is full. Remove it.", code="PREFERENCES_FULL")
            write_private(self._path, data)

    def _read(self) -> dict[str, Any]:
        try:
            return self._load()
        except StateError as error:
            logger.warning("%s", error)
            return {}

    def _load(self) -> dict[str, Any]:
        """Raises `StateError` for a file that is there and is none of ours."""
        data = read_private(self._path, _MAX_BYTES)
        try:
            preferences = json.loads(data) if data else {}
        except (ValueError, RecursionError) as error:
            raise self._unusable() from error
        if not isinstance(preferences, dict):
            raise self._unusable()
        return preferences

    def _unusable(self) -> StateError:
        return StateError(f"{self._path} is not a JSON object. Repair it, or move it away.")


def _alerts(preferences: dict[str, Any]) -> list[str]:
    alerts = preferences.get("dismissed_alerts")
    return [alert for alert in alerts if isinstance(alert, str)] if isinstance(alerts, list) else []


def _dict(container: dict[str, Any], name: str) -> dict[str, Any]:
    value = container.get(name)
    return value if isinstance(value, dict) else {}
