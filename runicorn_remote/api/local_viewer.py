"""With `local_viewer`, what is neither `/api/remote` nor `/api/health` goes to a real local viewer.

So one address has everything but live logs: these are a WebSocket, which no WSGI server passes on; the
page says "Disconnected" there, and the viewer's own address has them. A request has passed our guards
when it gets here; werkzeug's own proxy does the rest.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flask import Blueprint, current_app, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import BadGateway
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.routing import PathConverter
from werkzeug.wrappers import Response

from runicorn_remote.api.limits import slow

bp = Blueprint("local_viewer", __name__)

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
# A viewer that indexes a large storage may take its time.
_TIMEOUT = 60
# What RFC 3986 lets stand in a path and in a query, and what is quoted already.
_IN_PATH = "!$&'()*+,/:;=@~"
_IN_QUERY = "!$&'()*+,/:;=@~?%"
_VIA = "runicorn-remote"


class ViewersPath(PathConverter):
    """A path below `/api` that is not ours. Ours are not even matched, so that their 405 stay theirs."""

    regex = r"(?!(?:remote|health)(?:/|$))[^/].*?"


@bp.record
def _register_converter(state: BlueprintSetupState) -> None:
    state.app.url_map.converters["viewers_path"] = ViewersPath


@bp.route("/api/<viewers_path:path>", methods=_METHODS)
@slow
def forward(path: str) -> Response:
    """Pass a request on to the local viewer."""
    if _VIA in request.headers.get("Via", ""):
        raise BadGateway("The address of local_viewer is that of this server itself.")
    target = {
        "target": current_app.config["LOCAL_VIEWER"],
        "host": request.host,  # so that redirects lead here
        "headers": {"Via": f"1.1 {_VIA}"},
    }
    proxy = ProxyMiddleware(_nowhere, {"/api/": target}, timeout=_TIMEOUT)
    try:
        response = Response.from_app(proxy, _passed_on())
    except http.client.HTTPException as error:
        raise BadGateway("What answers at the address of local_viewer is no viewer.") from error
    if response.status_code == 502:
        raise BadGateway("The local viewer does not answer; is it running at the address of local_viewer?")
    return response


def _passed_on() -> dict[str, Any]:
    """The request's environment, as the proxy needs it."""
    body = request.get_data(cache=False)  # within our own limit
    environ = {
        **request.environ,
        # The proxy takes what is quoted as it is. WSGI's strings hold bytes.
        "PATH_INFO": quote(request.environ["PATH_INFO"].encode("latin-1"), safe=_IN_PATH),
        "QUERY_STRING": quote(request.environ["QUERY_STRING"].encode("latin-1"), safe=_IN_QUERY),
        "wsgi.input": io.BytesIO(body),
    }
    # What proves who somebody is to us is not the viewer's business.
    for name in ("CONTENT_LENGTH", "HTTP_AUTHORIZATION", "HTTP_COOKIE"):
        environ.pop(name, None)
    if request.method not in ("GET", "HEAD") or body:
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _nowhere(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    raise AssertionError("every path of this blueprint has the proxy's prefix")
