"""`GET /api/remote/status`: everything at a glance, from memory alone."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.schemas.status import StatusSchema

bp = Blueprint(
    "status", __name__, url_prefix="/api/remote", description="Connections and viewers at a glance"
)


@bp.get("/status")
@bp.response(200, StatusSchema)
def status() -> dict[str, Any]:
    """All connections and all viewers."""
    connections = services().connections.list()
    viewer_sessions = services().viewers.snapshots()
    return {
        "connections": connections,
        "viewer_sessions": viewer_sessions,
        "connection_count": len(connections),
        "viewer_session_count": len(viewer_sessions),
    }
