"""For machines: `/healthz` (the process lives), `/readyz` (it can work), `/metrics` (Prometheus).

Outside `/api`, so that no page of a viewer needs them and their paths are what such tools expect. All
guards apply; only `/metrics` wants a token where there is one, as Prometheus can send it.
"""

from __future__ import annotations

from flask import Blueprint, Flask, Response, jsonify, request
from prometheus_client.exposition import choose_encoder

from runicorn_remote.api.base import services
from runicorn_remote.services.readiness import reasons_against

bp = Blueprint("probes", __name__)


def register(app: Flask) -> None:
    app.register_blueprint(bp)
    with app.app_context():
        wanted = services().settings.metrics
    if wanted:
        app.add_url_rule("/metrics", view_func=metrics)


@bp.get("/healthz")
def healthz() -> Response:
    """The process answers; nothing is looked at."""
    return jsonify({"status": "ok"})


@bp.get("/readyz")
def readyz() -> Response:
    """200, or 503 with the reasons."""
    reasons = reasons_against(services())
    response = jsonify({"status": "unready" if reasons else "ready", "reasons": reasons})
    response.status_code = 503 if reasons else 200
    return response


def metrics() -> Response:
    """What Prometheus scrapes, in its text format or, if it asks for that, in OpenMetrics."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(services().metrics.registry), content_type=content_type)
