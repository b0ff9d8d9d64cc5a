"""The host keys people confirmed."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.schemas.known_hosts import (
    AcceptedSchema,
    AcceptSchema,
    EntriesSchema,
    RemovedSchema,
    RemoveSchema,
)

bp = Blueprint(
    "known_hosts", __name__, url_prefix="/api/remote/known-hosts", description="Host keys that are trusted"
)


@bp.post("/accept")
@bp.arguments(AcceptSchema, example=examples.ACCEPT)
@bp.response(200, AcceptedSchema)
def accept(body: dict[str, Any]) -> dict[str, Any]:
    """Trust a key that a 409 showed, in place of the host's other keys of its type."""
    services().known_hosts.accept(
        body["host"], body["port"], body["key_type"], body["public_key"], body["fingerprint_sha256"]
    )
    return {"ok": True}


@bp.get("/list")
@bp.response(200, EntriesSchema)
def list_entries() -> dict[str, Any]:
    """Every name that is trusted, with its key, in file order."""
    return {"entries": services().known_hosts.list()}


@bp.post("/remove")
@bp.arguments(RemoveSchema, example=examples.REMOVE)
@bp.response(200, RemovedSchema)
def remove(body: dict[str, Any]) -> dict[str, Any]:
    """Forget a host's keys of one type."""
    return {
        "ok": True,
        "changed": services().known_hosts.remove(body["host"], body["port"], body["key_type"]),
    }
