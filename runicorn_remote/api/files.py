"""Looking around on a host."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.files import ExistsQuerySchema, ExistsSchema, ListingSchema, ListQuerySchema

bp = Blueprint("files", __name__, url_prefix="/api/remote/fs", description="Directories of a host, over SFTP")


@bp.get("/list")
@bp.arguments(ListQuerySchema, location="query")
@bp.response(200, ListingSchema)
@slow
def list_directory(query: dict[str, Any]) -> dict[str, Any]:
    """One directory: directories first, then by name."""
    host = services().connections.get(query["connection_id"])
    return services().files.list(host, query["path"])


@bp.get("/exists")
@bp.arguments(ExistsQuerySchema, location="query")
@bp.response(200, ExistsSchema)
@slow
def exists(query: dict[str, Any]) -> dict[str, Any]:
    """Whether a path is there, and whether it is a directory."""
    host = services().connections.get(query["connection_id"])
    return services().files.exists(host, query["path"])
