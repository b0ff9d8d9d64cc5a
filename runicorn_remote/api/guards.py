"""What every request has to pass before a view sees it, and what every answer carries."""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.exceptions import UnsupportedMediaType

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def register(app: Flask) -> None:
    app.before_request(require_json)
    app.after_request(add_headers)


def require_json() -> None:
    """A body is JSON and says so: a web page cannot send that type without asking first (CORS)."""
    has_body = request.content_length != 0 and (
        request.content_length is not None or "Transfer-Encoding" in request.headers
    )
    if has_body and request.method not in ("GET", "HEAD") and request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")


def add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
