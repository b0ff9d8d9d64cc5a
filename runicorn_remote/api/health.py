"""`GET /api/health`: asked first by the frontend and by `runicorn.client`. Touches no network and no lock."""

from __future__ import annotations

from typing import Any

from runicorn_remote._version import __version__
from runicorn_remote.api.base import Blueprint
from runicorn_remote.api.schemas.health import HealthSchema
from runicorn_remote.services.own_version import runicorn_version

bp = Blueprint("health", __name__, url_prefix="/api", description="Whether the server is there")


@bp.get("/health")
@bp.response(200, HealthSchema)
def health() -> dict[str, Any]:
    """Whether the server is there, and which Runicorn it speaks for."""
    return {
        "status": "ok",
        "version": runicorn_version(),
        "server": {"name": "runicorn-remote", "version": __version__},
    }
