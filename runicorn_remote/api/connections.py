"""Logging in to a host and letting go of it."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api import examples, observe
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.connections import (
    ConnectedSchema,
    ConnectionsSchema,
    CredentialsSchema,
    DisconnectSchema,
    OkSchema,
)

bp = Blueprint("connections", __name__, url_prefix="/api/remote", description="SSH connections")


@bp.post("/connect")
@bp.arguments(CredentialsSchema, example=examples.CONNECT)
@bp.response(200, ConnectedSchema, example=examples.CONNECTED)
@slow
def connect(body: dict[str, Any]) -> dict[str, Any]:
    """Log in, or reuse the live connection of the same identity."""
    target = services().connect(body["login"])
    observe.about(connection_id=target.connection_id)
    return {
        "ok": True,
        "connection_id": target.connection_id,
        "host": target.host,
        "port": target.port,
        "username": target.username,
        "connected": True,
    }


@bp.get("/sessions")
@bp.response(200, ConnectionsSchema)
def sessions() -> dict[str, Any]:
    """The connections a user opened and did not disconnect."""
    return {"sessions": services().connections.list()}


@bp.post("/disconnect")
@bp.arguments(DisconnectSchema, example=examples.DISCONNECT)
@bp.response(200, OkSchema)
def disconnect(body: dict[str, Any]) -> dict[str, Any]:
    """End the user's hold on a connection. Viewers over the same host go on, unless told otherwise."""
    removed = services().disconnect(
        body["host"], body["port"], body["username"], stop_viewers=body["stop_viewers"]
    )
    if removed:
        return {"ok": True, "message": "Connection removed"}
    return {"ok": False, "message": "Connection not found"}
