"""The Python environments of a host, and where it keeps its runs."""

from __future__ import annotations

from typing import Any

from runicorn_remote.api import examples
from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.limits import slow
from runicorn_remote.api.schemas.environments import (
    ConfigQuerySchema,
    ConfigSchema,
    ConnectionQuerySchema,
    EnvironmentConfigsSchema,
    EnvironmentsSchema,
    StorageCandidatesQuerySchema,
    StorageCandidatesSchema,
)
from runicorn_remote.services.own_version import advice
from runicorn_remote.services.survey import StorageCandidates

bp = Blueprint("environments", __name__, url_prefix="/api/remote", description="Pythons of a host")


@bp.get("/conda-envs")
@bp.arguments(ConnectionQuerySchema, location="query")
@bp.response(200, EnvironmentsSchema, example=examples.ENVIRONMENTS)
@slow
def list_environments(query: dict[str, Any]) -> dict[str, Any]:
    """All Python environments of the account, not only conda's; the default first. Always asks the host."""
    host = services().connections.get(query["connection_id"])
    return {"ok": True, "envs": services().environments.list(host)}


@bp.get("/env-configs")
@bp.arguments(ConnectionQuerySchema, location="query")
@bp.response(200, EnvironmentConfigsSchema)
@slow
def list_configs(query: dict[str, Any]) -> dict[str, Any]:
    """The versions of Python and runicorn in every environment."""
    host = services().connections.get(query["connection_id"])
    found = services().environments.env_configs(host)
    configs = {
        name: {
            "pythonVersion": item.python_version,
            "runicornVersion": item.runicorn_version,
            "advice": advice(item.runicorn_version),
        }
        for name, item in found.items()
    }
    return {"ok": True, "configs": configs}


@bp.get("/config")
@bp.arguments(ConfigQuerySchema, location="query")
@bp.response(200, ConfigSchema)
@slow
def config(query: dict[str, Any]) -> dict[str, Any]:
    """What is needed to start a viewer with one environment: versions, storage root, a free port."""
    host = services().connections.get(query["connection_id"])
    name = query["conda_env"] or "system"
    found = services().environments.config(host, name)
    return {
        "ok": True,
        "condaEnv": name,
        "pythonVersion": found.environment.python_version,
        "runicornVersion": found.environment.runicorn_version,
        "defaultStorageRoot": found.default_storage_root,
        "storageRootExists": found.storage_root_exists,
        "suggestedRemotePort": found.suggested_remote_port,
        "connectionId": query["connection_id"],
        "homeDirectory": found.home_directory,
        "advice": advice(found.environment.runicorn_version),
    }


@bp.get("/storage-candidates")
@bp.arguments(StorageCandidatesQuerySchema, location="query")
@bp.response(200, StorageCandidatesSchema)
@slow
def list_storage_candidates(query: dict[str, Any]) -> StorageCandidates:
    """Directories that look like storage, the best first."""
    host = services().connections.get(query["connection_id"])
    return services().environments.storage_candidates(
        host, query["conda_env"] or "system", query["scan_root"] or None, query["max_depth"]
    )
