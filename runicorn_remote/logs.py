"""The log of the process: one handler, secrets cut out, every line of a request with the request's id.

`configure_logging` is for whoever runs a process (`runicorn_remote.server`). Code that logs uses
`logging.getLogger(__name__)` and knows nothing of this; a thread that works for a request is started in
a copy of its context (`contextvars.copy_context().run`), and its lines have the id too.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone

from runicorn_remote.redaction import RedactingFormatter, Redactor, redactor

# The id of the request that the running code works for. A context variable is as local as a variable of
# the thread, and is inherited where a context is copied.
request_id: ContextVar[str | None] = ContextVar("runicorn_remote.request_id", default=None)

_TEXT = "%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s"


def configure_logging(level: str, form: str = "text") -> None:
    """One handler at the root, to stderr; `form` is "text" or "json". paramiko's chatter is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(AddRequestId())
    handler.setFormatter(JsonFormatter(redactor) if form == "json" else RedactingFormatter(redactor, _TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for library in ("paramiko", "fabric", "invoke"):
        # Their errors reach us as exceptions; their logs would tell them twice, with a traceback.
        logging.getLogger(library).setLevel(logging.CRITICAL)


class AddRequestId(logging.Filter):
    """Gives every record `request_id` (None outside requests) and `request` (` [ID]`, or nothing)."""

    def filter(self, record: logging.LogRecord) -> bool:
        number = request_id.get()
        vars(record).update(request_id=number, request=f" [{number}]" if number else "")
        return True


class JsonFormatter(logging.Formatter):
    """One object a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, `thread`, and where there
    are any `request_id` and `exception` (the traceback).

    Redacts the values rather than the line: JSON may spell a secret differently.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": iso_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": self._redactor.redact(record.getMessage()),
            "thread": self._redactor.redact(str(record.threadName)),
        }
        if number := getattr(record, "request_id", None):
            entry["request_id"] = number
        if record.exc_info:
            entry["exception"] = self._redactor.redact(self.formatException(record.exc_info))
        return json.dumps(entry)


def iso_time(seconds: float) -> str:
    """`2026-01-31T12:00:00.123Z` of seconds since the epoch."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
