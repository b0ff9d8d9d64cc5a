"""Server-sent events as an answer (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Response, request
from marshmallow import fields

from runicorn_remote.api.base import Schema, services
from runicorn_remote.services.event_streams import EventStream
from runicorn_remote.services.session_events import Event, SessionEvents

# How long a browser waits, in ms, before it comes back when it is cut off.
_BEGINNING = b"retry: 2000\n\n"
# A comment, which clients skip.
_STILL_THERE = b": still there\n\n"


class EventHeadersSchema(Schema):
    last_event_id = fields.String(
        data_key="Last-Event-ID",
        load_default=None,
        metadata={"description": "the `id` of the last event that was seen; browsers send it by themselves"},
    )


def answer_with_events(events: SessionEvents, last_event_id: str | None) -> Response:
    """The stream of these events, or 204 for a client that has seen the last one. Raises `Busy`."""
    is_gone = request.environ.get("waitress.client_disconnected", lambda: False)
    stream = services().event_streams.open(events, last_event_id, is_gone)
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
