"""The one table from exceptions to HTTP answers: always JSON, always with `detail`.

Domain errors (`runicorn_remote.errors`) are looked up by their class, nearest ancestor first.
Werkzeug's own errors keep their status and headers (405 keeps `Allow`). Validation errors of a
request become a list, one item a fault, without the value that was sent. Anything else is a 500
that says nothing about the inside; the traceback goes to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from runicorn_remote import errors
from runicorn_remote.logs import request_id

logger = logging.getLogger(__name__)

STATUS: dict[type[errors.RemoteError], int] = {
    errors.InvalidValue: 400,
    errors.TokenRequired: 401,
    errors.AccessDenied: 403,
    errors.PathForbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.IdempotencyKeyReused: 422,
    errors.Busy: 503,
    errors.LoginBackoff: 429,
    errors.SSHError: 500,
    errors.InteractiveAuthRequired: 401,
    errors.Unreachable: 503,
    errors.LinkLost: 503,
    errors.RemoteError: 500,
}


def register(app: Flask) -> None:
    """Install the handlers. They override flask-smorest's, so call this after its `Api`."""
    app.register_error_handler(errors.RemoteError, handle_remote_error)
    app.register_error_handler(HTTPException, handle_http_exception)
    app.register_error_handler(Exception, handle_unexpected)


def status_of(error: errors.RemoteError) -> int:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def handle_remote_error(error: errors.RemoteError) -> Response:
    status = status_of(error)
    log = logger.error if status >= 500 else logger.info
    log("%s %s -> %d %s: %s", request.method, request.path, status, error.code, error)
    response = _answer(status, error.detail, error.code, error.hint)
    if isinstance(error, errors.TokenRequired):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.InteractiveAuthRequired):
        # A 401 has to name a scheme (RFC 9110, 15.5.2); this is one that no browser has a dialogue for.
        response.headers["WWW-Authenticate"] = "SSH-keyboard-interactive"
    if isinstance(error, errors.Busy):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def handle_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    if status == 422:
        response = _answer(422, list(_faults(getattr(error, "data", {}))), "VALIDATION_FAILED")
    else:
        detail = error.description or error.name
        response = _answer(status, detail, (error.name or "error").upper().replace(" ", "_"))
    # werkzeug's own headers (Allow, Retry-After, ...) without those that describe its HTML body.
    for name, value in error.get_response(request.environ).headers.items():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def handle_unexpected(error: Exception) -> Response:
    logger.exception("%s %s failed unexpectedly", request.method, request.path, exc_info=error)
    return _answer(
        500,
        "Internal server error. The server's log has the details.",
        "INTERNAL_ERROR",
        f"Please report this with the traceback from the log, which is at [{request_id.get()}] there.",
    )


def _answer(status: int, detail: Any, code: str, hint: str | None = None) -> Response:
    g.error_code = code
    body = {"detail": detail, "code": code}
    if hint:
        body["hint"] = hint
    response = jsonify(body)
    response.status_code = status
    return response


def _faults(data: Any) -> Iterator[dict[str, Any]]:
    """webargs' {location: {field: [messages]}} as the list FastAPI's clients know."""
    for location, messages in data.get("messages", {}).items():
        where = "body" if location == "json" else location
        yield from _walk([where], messages)


def _walk(loc: list[Any], messages: Any) -> Iterator[dict[str, Any]]:
    if isinstance(messages, dict):
        for key, value in messages.items():
            yield from _walk(loc if key == "_schema" else [*loc, key], value)
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            missing = message == "Missing data for required field."
            yield {"loc": loc, "msg": str(message), "type": "missing" if missing else "value_error"}
