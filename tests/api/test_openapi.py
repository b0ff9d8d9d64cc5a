"""The description of the API is complete, and what the API answers is what it says."""

from __future__ import annotations

import re
import tempfile
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from runicorn_remote.app import create_app
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings

# Nobody listens there: discard(9) needs root and is long out of use.
CLOSED_PORT = 9


def test_every_route_is_described(app: Flask, client: FlaskClient) -> None:
    described = set(client.get("/openapi.json").json["paths"])
    routes = {
        re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
    }
    assert routes == described


def test_every_operation_says_what_it_is_for_and_how_it_fails(client: FlaskClient) -> None:
    description = client.get("/openapi.json").json
    for path, operations in description["paths"].items():
        for method in ("get", "post"):
            operation = operations.get(method)
            if operation is None:
                continue
            assert {"200", "400", "404", "422", "500", "503"} <= set(operation["responses"]), path
            if method == "post":
                assert {"409", "413", "415"} <= set(operation["responses"]), path
            if path.startswith("/api/remote"):
                assert operation.get("summary"), f"{method} {path} has no docstring"


@pytest.mark.parametrize("path", ["connect", "known-hosts/accept", "viewer/start", "connections/saved"])
def test_the_examples_are_ones(app: Flask, client: FlaskClient, path: str) -> None:
    operation = client.get("/openapi.json").json["paths"][f"/api/remote/{path}"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = client.post(f"/api/remote/{path}", json=example)
    # The key file of the example is not on this machine, and no host has shown its host key; nothing else
    # may be wrong with it.
    assert answer.status_code == 200 or answer.json["code"] in ("KEY_UNUSABLE", "HOST_KEY_NOT_SEEN")


def test_the_browsable_page_needs_no_other_server(client: FlaskClient) -> None:
    page = client.get("/docs/").text
    assert "swagger-ui" in page
    assert "http://" not in page.replace("http://localhost/docs/oauth2-redirect.html", "")
    assert "https://" not in page
    for name in ("swagger-ui.css", "swagger-ui-bundle.js"):
        with client.get(f"/docs/{name}") as answer:
            assert answer.status_code == 200


# Operations have to be known when tests are collected, so this application is not a fixture's.
_state = tempfile.TemporaryDirectory()
_settings = Settings(state_dir=_state.name, frontend="off", connect_timeout=1.0)
schema = schemathesis.openapi.from_wsgi("/openapi.json", create_app(services=Services(_settings)))


@schema.parametrize()
@hypothesis.settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_answers_are_as_described(case: schemathesis.Case) -> None:
    stay_on_this_machine(case)
    response = case.call_and_validate(
        checks=(no_surprise, status_code_conformance, content_type_conformance, response_schema_conformance)
    )
    assert response is not None


def stay_on_this_machine(case: schemathesis.Case) -> None:
    """Logins go nowhere else, whatever host was thought of."""
    if isinstance(case.body, dict) and isinstance(case.body.get("host"), str):
        case.body["host"] = "127.0.0.1"
        case.body["port"] = CLOSED_PORT


def no_surprise(ctx: CheckContext, response: Any, case: schemathesis.Case) -> None:
    """A 500 is one of the documented failures of a host, never a fault of ours."""
    if response.status_code >= 400:
        body = response.json()
        assert body["code"] != "INTERNAL_ERROR", body
        assert body["detail"], body
