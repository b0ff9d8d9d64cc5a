"""A session's events as they happen: server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Response, request

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.schemas.viewers import EventHeadersSchema
from runicorn_remote.services.event_streams import EventStream
from runicorn_remote.services.session_events import Event

bp = Blueprint("viewer_events", __name__, url_prefix="/api/remote/viewer", description="Remote viewers")

# How long a browser waits, in ms, before it comes back when it is cut off.
_BEGINNING = b"retry: 2000\n\n"
# A comment, which clients skip.
_STILL_THERE = b": still there\n\n"


@bp.get("/<session_id>/events")
@bp.arguments(EventHeadersSchema, location="headers")
@bp.response(200, {"type": "string"}, content_type="text/event-stream", example=examples.EVENTS)
@bp.alt_response(204, description="The client has seen the last event; a browser does not come back")
def events(headers: dict[str, str | None], session_id: str) -> Response:
    """Follow one viewer: an event for each change of its status or phase, and `end` as the last one.

    Begins with what is kept of the past, or behind `Last-Event-ID`.
    """
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    stream = services().event_streams.open(session_id, headers["last_event_id"], is_gone)
    # Nobody closes a body that is not sent.
    if stream.has_nothing or request.method == "HEAD":
        status = 204 if stream.has_nothing else 200
        stream.close()
        return Response(status=status, mimetype="text/event-stream")
    # For nginx, which would collect what it passes on.
    return Response(_Body(stream), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})


class _Body:
    """The stream as bytes. No generator: closing one that never ran does not run its `finally`."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._begun:
            self._begun = True
            return _BEGINNING
        return b"".join(map(_encoded, next(self._stream))) or _STILL_THERE

    def close(self) -> None:
        self._stream.close()


def _encoded(event: Event) -> bytes:
    # ASCII, and so without any line end of Unicode's.
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n".encode("ascii")
