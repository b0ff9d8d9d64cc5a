"""The description of the API: `/openapi.json`, made from the schemas, and `/docs` to browse it offline.

Every operation documents every error it can answer: those that any request can meet are added here,
so that a new route has them too.
"""

from __future__ import annotations

from typing import Any

import flask_smorest
from flask import Flask
from flask_swagger_ui import get_swaggerui_blueprint

from runicorn_remote._version import __version__
from runicorn_remote.api.schemas.errors import (
    ChallengeSchema,
    ConflictSchema,
    ErrorSchema,
    HostKeyQuestionSchema,
    UnauthorizedSchema,
    ValidationErrorSchema,
)

CONFIG = {
    "API_TITLE": "Runicorn Remote API",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.0.3",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
}

_ANY = {
    "400": ("A value that parses and cannot be used", ErrorSchema),
    "401": ("A token is required, or the host asks (`detail` is an object)", UnauthorizedSchema),
    "403": (
        "Not allowed: the Host, the origin or the user of the request, or a path of the host",
        ErrorSchema,
    ),
    "404": ("There is no such thing, or no live connection", ErrorSchema),
    "413": ("The body is too large", ErrorSchema),
    "422": ("A missing or ill-typed field", ValidationErrorSchema),
    "429": ("Too many requests; see Retry-After", ErrorSchema),
    "500": ("The login failed, or something on the host did", ErrorSchema),
    "503": ("The host cannot be reached, or the server is busy; see Retry-After", ErrorSchema),
}
_WITH_BODY = {
    "409": ("A host key to confirm, or a local port in use", ConflictSchema),
    "415": ("The body is not application/json", ErrorSchema),
}


class Api(flask_smorest.Api):
    """flask-smorest's, with our errors."""

    ERROR_SCHEMA = ErrorSchema


def create(app: Flask) -> Api:
    """Add `/openapi.json` and `/docs` to the application."""
    app.config.update(CONFIG)
    api = Api(app)
    api.spec.components.schema("HostKeyQuestion", schema=HostKeyQuestionSchema)
    api.spec.components.schema("Challenge", schema=ChallengeSchema)
    app.register_blueprint(
        get_swaggerui_blueprint("/docs", "/openapi.json", config={"app_name": "Runicorn Remote API"})
    )
    return api


def document_errors(api: Api) -> None:
    """Give every operation the errors it can answer. Call it when all blueprints are registered."""
    for operations in api.spec.to_dict()["paths"].values():
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                errors = {**_ANY, **(_WITH_BODY if method != "get" else {})}
                _add(api, operation["responses"], errors)


def _add(api: Api, responses: dict[str, Any], errors: dict[str, tuple[str, Any]]) -> None:
    for status, (description, schema) in errors.items():
        content = {"application/json": {"schema": _reference(api, schema)}}
        responses[status] = {"description": description, "content": content}


def _reference(api: Api, schema: Any) -> dict[str, str]:
    name = schema.__name__.removesuffix("Schema")
    if name not in api.spec.components.schemas:
        api.spec.components.schema(name, schema=schema)
    return {"$ref": f"#/components/schemas/{name}"}
