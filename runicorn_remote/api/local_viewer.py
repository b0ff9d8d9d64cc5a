"""With `local_viewer`, what is not `/api/remote` goes to a real local viewer: one address has everything.

The request has passed our guards when it gets here; werkzeug's own proxy does the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, current_app, request
from werkzeug.exceptions import BadGateway
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.wrappers import Response

bp = Blueprint("local_viewer", __name__)

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# A viewer that indexes a large storage may take its time.
_TIMEOUT = 60


@bp.route("/api/<path:path>", methods=_METHODS)
def forward(path: str) -> Response:
    """Pass a request on to the local viewer."""
    proxy = ProxyMiddleware(
        _nowhere, {"/api/": {"target": current_app.config["LOCAL_VIEWER"]}}, timeout=_TIMEOUT
    )
    response = Response.from_app(proxy, request.environ)  # a copy of the viewer's answer
    if response.status_code == 502:
        raise BadGateway("The local viewer does not answer; is it running at the address of local_viewer?")
    return response


def _nowhere(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    raise AssertionError("every path of this blueprint has the proxy's prefix")
