"""Saved servers and connection profiles."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.schemas.saved_connections import (
    SavedConnectionsSchema,
    SavedEntrySchema,
    SavedSchema,
)

bp = Blueprint(
    "saved_connections", __name__, url_prefix="/api/remote", description="Saved servers and profiles"
)

_NO_SECRETS = "Passwords, passphrases and keys were not saved: this server stores none (store_secrets)."


@bp.get("/connections/saved")
@bp.response(200, SavedConnectionsSchema)
def get_saved_connections() -> dict[str, Any]:
    """All saved entries, without their secrets."""
    return {"ok": True, "connections": services().saved_connections.list()}


@bp.post("/connections/saved")
@bp.arguments(SavedEntrySchema(many=True), example=examples.SAVED)
@bp.response(200, SavedSchema)
def save_connections(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Replace the whole list. A secret that is absent from a known entry is kept."""
    complete = services().saved_connections.replace(entries)
    answer = {"ok": True, "message": "Connections saved successfully"}
    return answer if complete else {**answer, "warning": _NO_SECRETS}
