"""`GET /api/remote/status`: everything at a glance, from memory alone."""

from __future__ import annotations

import json

from flask import Response

from runicorn_remote.api.base import Blueprint, json_text, services
from runicorn_remote.api.schemas.status import StatusSchema

bp = Blueprint(
    "status", __name__, url_prefix="/api/remote", description="Connections and viewers at a glance"
)


@bp.get("/status")
@bp.response(200, StatusSchema)
def status() -> Response:
    """All connections and all viewers."""
    connections = services().connections.list()
    viewers = services().sessions.snapshots_json()
    return json_text(
        f'{{"connections": {json.dumps(connections)}, "viewer_sessions": [{",".join(viewers)}], '
        f'"connection_count": {len(connections)}, "viewer_session_count": {len(viewers)}}}'
    )
