"""Putting runicorn onto a host that has none."""

from __future__ import annotations

from typing import Any

from flask import Response

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.event_stream import EventHeadersSchema, answer_with_events
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.connections import OkSchema
from runicorn_remote.api.schemas.installs import (
    InstallAnswerSchema,
    InstallJobSchema,
    InstallQuerySchema,
    InstallSchema,
)
from runicorn_remote.services.install_job import InstallJob

bp = Blueprint(
    "installs",
    __name__,
    url_prefix="/api/remote/environments/install",
    description="Runicorn for hosts that have none",
)


@bp.post("")
@bp.arguments(InstallSchema, example=examples.INSTALL)
@bp.response(200, InstallAnswerSchema)
@bp.alt_response(202, schema=InstallAnswerSchema, description="Without `wait`: it has begun")
def install(body: dict[str, Any]) -> Any:
    """Install runicorn into an environment, or into one of its own that later is called runicorn-remote.

    By uv or pip, from the host's package index; if it gets nothing from there, with packages that this
    server fetches and copies. The answer is 202 at once, and the job tells how it goes; with `wait` 200
    when it is done, or the error.
    """
    if body["wait"]:
        return {"ok": True, "install": _to_the_end(body).snapshot()}
    return {"ok": True, "install": _begin(body).snapshot()}, 202


@slow
def _to_the_end(body: dict[str, Any]) -> InstallJob:
    return services().installs.wait(_begin(body))


def _begin(body: dict[str, Any]) -> InstallJob:
    return services().installs.begin(body["connection_id"], body["conda_env"], body["version"])


@bp.get("/<install_id>")
@bp.arguments(InstallQuerySchema, location="query")
@bp.response(200, InstallJobSchema)
def status(query: dict[str, Any], install_id: str) -> dict[str, Any]:
    """How far an installation is; kept for an hour after its end."""
    return services().installs.get(install_id).snapshot(query["after"])


@bp.get("/<install_id>/events")
@bp.arguments(EventHeadersSchema, location="headers")
@bp.response(200, {"type": "string"}, content_type="text/event-stream", example=examples.INSTALL_EVENTS)
@bp.alt_response(204, description="The client has seen the last event; a browser does not come back")
def events(headers: dict[str, str | None], install_id: str) -> Response:
    """Follow an installation: an event for each line and each phase, and `end` as the last one.

    Begins with what is kept of the past, or behind `Last-Event-ID`.
    """
    return answer_with_events(services().installs.get(install_id).events, headers["last_event_id"])


@bp.post("/<install_id>/cancel")
@bp.response(200, OkSchema)
def cancel(install_id: str) -> dict[str, Any]:
    """End an installation; what it has begun on the host is taken back."""
    services().installs.cancel(install_id)
    return {"ok": True, "message": f"Installation {install_id} is being cancelled"}
