"""A session's events as they happen: server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

from flask import Response

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.event_stream import EventHeadersSchema, answer_with_events

bp = Blueprint("viewer_events", __name__, url_prefix="/api/remote/viewer", description="Remote viewers")


@bp.get("/<session_id>/events")
@bp.arguments(EventHeadersSchema, location="headers")
@bp.response(200, {"type": "string"}, content_type="text/event-stream", example=examples.EVENTS)
@bp.alt_response(204, description="The client has seen the last event; a browser does not come back")
def events(headers: dict[str, str | None], session_id: str) -> Response:
    """Follow one viewer: an event for each change of its status or phase, and `end` as the last one.

    Begins with what is kept of the past, or behind `Last-Event-ID`.
    """
    return answer_with_events(services().sessions.get(session_id).events, headers["last_event_id"])
