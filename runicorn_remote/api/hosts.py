"""A host as a whole."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.hosts import ResourcesQuerySchema, ResourcesSchema
from runicorn_remote.services.resources import ask_resources

bp = Blueprint("hosts", __name__, url_prefix="/api/remote/hosts", description="How busy a host is")


@bp.get("/<path:connection_id>/resources")
@bp.arguments(ResourcesQuerySchema, location="query")
@bp.response(200, ResourcesSchema)
@slow
def resources(query: dict[str, Any], connection_id: str) -> dict[str, Any]:
    """Load, memory, disk of the storage root and GPUs, in one round trip."""
    host = services().connections.get(connection_id)
    command_timeout = services().settings.command_timeout
    found = ask_resources(host, query["storage_root"], command_timeout)
    return {"connectionId": connection_id, "found": found}
