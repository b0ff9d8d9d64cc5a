"""What the web page asks outside `/api/remote` when it loads: enough that it loads without errors.

There is no local storage behind this server, so the lists of local runs are empty. With
`local_viewer` these routes go to a real local viewer instead (`runicorn_remote.app`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runicorn_remote.api.base import Blueprint, services
from runicorn_remote.api.schemas.app_shell import (
    AlertSchema,
    DismissedSchema,
    GpuConfigSchema,
    GpuHistorySchema,
    GpuSchema,
    PathsSchema,
    RunSchema,
    ShellConfigSchema,
    WidthsQuerySchema,
    WidthsSchema,
)
from runicorn_remote.api.schemas.connections import OkSchema

bp = Blueprint("app_shell", __name__, url_prefix="/api", description="What the web page's shell asks")


@bp.get("/config")
@bp.response(200, ShellConfigSchema)
def config() -> dict[str, Any]:
    """Directories. An empty `user_root_dir` would open the page's first-run drawer, so it never is."""
    state_dir = services().state_dir
    return {
        "user_root_dir": str(state_dir),
        "storage": str(state_dir),
        "config_file": str(state_dir / "config.json"),
        "home_directory": str(Path.home()),
    }


@bp.get("/config/dismissed-alerts")
@bp.response(200, DismissedSchema)
def dismissed_alerts() -> dict[str, Any]:
    """The hints of the page that were closed for good."""
    return {"dismissed_alerts": services().ui_preferences.dismissed_alerts()}


@bp.post("/config/dismissed-alerts/dismiss")
@bp.arguments(AlertSchema)
@bp.response(200, OkSchema)
def dismiss(body: dict[str, Any]) -> dict[str, Any]:
    services().ui_preferences.dismiss(body["alert_id"])
    return {"ok": True, "message": "Alert dismissed"}


@bp.post("/config/dismissed-alerts/undismiss")
@bp.arguments(AlertSchema)
@bp.response(200, OkSchema)
def undismiss(body: dict[str, Any]) -> dict[str, Any]:
    services().ui_preferences.undismiss(body["alert_id"])
    return {"ok": True, "message": "Alert restored"}


@bp.post("/config/dismissed-alerts/clear")
@bp.response(200, OkSchema)
def clear_dismissed() -> dict[str, Any]:
    services().ui_preferences.clear_dismissed()
    return {"ok": True, "message": "All dismissed alerts cleared"}


@bp.get("/config/column-widths")
@bp.arguments(WidthsQuerySchema, location="query")
@bp.response(200, WidthsSchema)
def column_widths(query: dict[str, Any]) -> dict[str, Any]:
    widths = services().ui_preferences.column_widths(query["table"], query["size"])
    return {**query, "widths": widths}


@bp.post("/config/column-widths")
@bp.arguments(WidthsSchema)
@bp.response(200, OkSchema)
def save_column_widths(body: dict[str, Any]) -> dict[str, Any]:
    services().ui_preferences.save_column_widths(body["table"], body["size"], body["widths"])
    return {"ok": True, "message": "Column width preferences saved"}


@bp.get("/gpu/telemetry")
@bp.response(200, GpuSchema)
def gpu_telemetry() -> dict[str, Any]:
    return {"available": False, "reason": "This server watches no local GPU", "gpus": []}


@bp.get("/gpu/telemetry/history")
@bp.response(200, GpuHistorySchema)
def gpu_history() -> dict[str, Any]:
    return {"available": False, "enabled": False, "samples": []}


@bp.get("/gpu/telemetry/config")
@bp.response(200, GpuConfigSchema)
def gpu_config() -> dict[str, Any]:
    return {"enabled": False, "interval_sec": 2, "max_duration_h": 24}


@bp.get("/runs")
@bp.response(200, RunSchema(many=True))
def runs() -> list[dict[str, Any]]:
    """Local runs: none."""
    return []


@bp.get("/paths")
@bp.response(200, PathsSchema)
def paths() -> dict[str, Any]:
    """Paths of local runs: none."""
    return {"paths": [], "tree": {}, "stats": {}}
