"""The whole of the Remote API, so that no route comes, goes or changes its methods unnoticed."""

from __future__ import annotations

import re

from flask import Flask
from flask.testing import FlaskClient

ROUTES = {
    "/api/health": {"GET"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
    "/metrics": {"GET"},
    "/api/remote/connect": {"POST"},
    "/api/remote/sessions": {"GET"},
    "/api/remote/disconnect": {"POST"},
    "/api/remote/known-hosts/accept": {"POST"},
    "/api/remote/known-hosts/list": {"GET"},
    "/api/remote/known-hosts/remove": {"POST"},
    "/api/remote/conda-envs": {"GET"},
    "/api/remote/env-configs": {"GET"},
    "/api/remote/config": {"GET"},
    "/api/remote/storage-candidates": {"GET"},
    "/api/remote/viewer/start": {"POST"},
    "/api/remote/viewer/stop": {"POST"},
    "/api/remote/viewer/sessions": {"GET"},
    "/api/remote/viewer/status/<session_id>": {"GET"},
    "/api/remote/viewer/<session_id>/log": {"GET"},
    "/api/remote/viewer/<session_id>/events": {"GET"},
    "/api/remote/fs/list": {"GET"},
    "/api/remote/fs/exists": {"GET"},
    "/api/remote/environments/install": {"POST"},
    "/api/remote/environments/install/<install_id>": {"GET"},
    "/api/remote/environments/install/<install_id>/cancel": {"POST"},
    "/api/remote/environments/install/<install_id>/events": {"GET"},
    "/api/remote/hosts/<path:connection_id>/resources": {"GET"},
    "/api/remote/status": {"GET"},
    "/api/remote/connections/saved": {"GET", "POST"},
}


PROBES = ("/healthz", "/readyz", "/metrics")


def test_exactly_these_routes_are_there(app: Flask) -> None:
    found: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        assert rule.methods is not None
        if not rule.rule.startswith(("/api/remote", "/api/health", *PROBES)):
            continue
        found.setdefault(rule.rule, set()).update(rule.methods - {"HEAD", "OPTIONS"})
    assert found == ROUTES


def test_every_other_method_is_refused_with_those_that_are_allowed(client: FlaskClient) -> None:
    for rule, methods in ROUTES.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = client.open(re.sub("<.*>", "x", rule), method=method, json={})
            assert answer.status_code == 405, (method, rule)
            assert answer.get_json()["code"] == "METHOD_NOT_ALLOWED"
            assert isinstance(answer.get_json()["detail"], str)
            assert methods <= set(answer.headers["Allow"].split(", ")), (method, rule)


def test_a_slash_at_the_end_changes_nothing(client: FlaskClient) -> None:
    assert client.get("/api/remote/status/").get_json() == client.get("/api/remote/status").get_json()
