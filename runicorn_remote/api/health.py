"""`GET /api/health`: asked first by the frontend and by `runicorn.client`. Touches no network and no lock."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from runicorn_remote._version import __version__
from runicorn_remote.api.base import Blueprint
from runicorn_remote.api.schemas.health import HealthSchema

bp = Blueprint("health", __name__, url_prefix="/api", description="Whether the server is there")

# The newest Runicorn whose Remote API this is.
IMPLEMENTED_VERSION = "0.7.2"


@bp.get("/health")
@bp.response(200, HealthSchema)
def health() -> dict[str, Any]:
    """Whether the server is there, and which Runicorn it speaks for."""
    return {
        "status": "ok",
        "version": runicorn_version(),
        "server": {"name": "runicorn-remote", "version": __version__},
    }


@cache
def runicorn_version() -> str:
    """What the frontend compares with the version on a host: the `runicorn` installed beside us."""
    try:
        return metadata.version("runicorn")
    except metadata.PackageNotFoundError:
        return IMPLEMENTED_VERSION
