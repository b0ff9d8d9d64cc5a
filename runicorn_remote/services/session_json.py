"""A session's snapshot as JSON text.

Frontends ask for all sessions again and again, and hardly anything has changed in between. So the
text of what seldom changes is kept, and only the rest is encoded each time.
"""

from __future__ import annotations

import json
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))


class SessionJson:
    """One session's text. May be called from any thread: what is kept is replaced as a whole."""

    def __init__(self) -> None:
        self._kept: tuple[dict[str, Any], str] = ({}, "")

    def text(self, settled: dict[str, Any], moving: dict[str, Any]) -> str:
        """One JSON object of both. Neither may be empty; `settled` must not be changed afterwards."""
        known, beginning = self._kept
        if settled != known:
            beginning = _ENCODER.encode(settled)[:-1]
            self._kept = (settled, beginning)
        return f"{beginning},{_ENCODER.encode(moving)[1:]}"
