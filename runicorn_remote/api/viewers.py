"""Starting, watching and ending remote viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request

from runicorn_remote.api import examples, observe
from runicorn_remote.api.base import Blueprint, json_text, services
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.connections import OkSchema
from runicorn_remote.api.schemas.viewers import (
    LogQuerySchema,
    LogSchema,
    SessionSchema,
    SessionsSchema,
    StartedSchema,
    StartHeadersSchema,
    StartSchema,
    StopSchema,
)

bp = Blueprint("viewers", __name__, url_prefix="/api/remote/viewer", description="Remote viewers")


@bp.post("/start")
@bp.arguments(StartSchema, example=examples.START)
@bp.arguments(StartHeadersSchema, location="headers")
@bp.response(200, StartedSchema, example=examples.STARTED)
@bp.alt_response(202, schema=StartedSchema, example=examples.STARTING, description="With `wait` false")
def start(body: dict[str, Any], headers: dict[str, Any]) -> Any:
    """Start a viewer and open a local port to it. Answers when it has answered through the tunnel.

    With `wait` false the answer is 202 at once, and the session says what becomes of it: its `phase`,
    and, if the start fails, `status` `error` with `errorCode`, `error` and `errorDetail`.
    """
    values = {
        "login": body["login"],
        "remote_root": body["remote_root"],
        "local_port": body["local_port"],
        "remote_port": body["remote_port"],
        "environment": body["conda_env"],
        "launch_args": body["launch_args"],
    }
    key = headers["idempotency_key"]
    if body["wait"]:
        session = _start_and_wait(values, key)
        observe.about(session_id=session["sessionId"])
        return {"ok": True, "session": session, "message": f"Remote Viewer ready at {session['url']}"}
    session = _once(key, lambda: services().start_jobs.begin(**values).snapshot())
    observe.about(session_id=session["sessionId"])
    return {"ok": True, "session": session, "message": "Remote Viewer is starting"}, 202


@slow
def _start_and_wait(values: dict[str, Any], key: str | None) -> dict[str, Any]:
    return _once(key, lambda: services().viewers.start(**values))


def _once(key: str | None, start: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if key is None:
        return start()
    return services().idempotent_starts.once(key, request.get_data(cache=True), start)


@bp.post("/stop")
@bp.arguments(StopSchema, example=examples.STOP)
@bp.response(200, OkSchema)
def stop(body: dict[str, Any]) -> dict[str, Any]:
    """End a viewer, its tunnel and its hold on the connection; cancel one that is still starting."""
    services().viewers.stop(body["session_id"])
    return {"ok": True, "message": f"Session {body['session_id']} stopped"}


@bp.get("/sessions")
@bp.response(200, SessionsSchema, example=examples.SESSIONS)
def sessions() -> Response:
    """All viewers, starting ones included."""
    return json_text(f'{{"sessions": [{",".join(services().sessions.snapshots_json())}]}}')


@bp.get("/status/<session_id>")
@bp.response(200, SessionSchema, example=examples.SESSION)
def status(session_id: str) -> Response:
    """One viewer."""
    return json_text(services().sessions.get(session_id).snapshot_json())


@bp.get("/<session_id>/log")
@bp.arguments(LogQuerySchema, location="query")
@bp.response(200, LogSchema, example=examples.LOG)
@slow
def log(query: dict[str, Any], session_id: str) -> dict[str, Any]:
    """The last lines of a viewer's log on its host, or what was last seen of it."""
    return services().viewers.log(session_id, query["tail"])
