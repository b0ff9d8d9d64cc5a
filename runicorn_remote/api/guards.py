"""What every request has to pass before a view sees it, and what every answer carries.

Three kinds of strangers can reach a port on localhost, and clients send no credentials, so each is
told from rightful users by what it cannot change:

* **web pages**, by `Host` (DNS rebinding: the page's own name stands there), `Origin` and
  `Sec-Fetch-Site`. A page that comes through one of our own tunnels is at `http://localhost:PORT`, the
  same *site* as this server, and a stranger all the same: only the very same origin passes.
* **other users of the machine**, by the owner of their socket (`runicorn_remote.peers`).
* **other machines**, by a token, without which the server does not listen to them at all, and does not
  answer them where a foreign WSGI server does.

Every refusal says what a rightful user has to set.
"""

from __future__ import annotations

import hmac
import ipaddress
import re

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import UnsupportedMediaType

from runicorn_remote.api.base import services
from runicorn_remote.api.peer import PEER_UID, tcp_peer
from runicorn_remote.errors import AccessDenied, TokenRequired
from runicorn_remote.peers import is_another_machine

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::\d{1,5})?")
_ALLOWED_METHODS = "GET, POST, OPTIONS"
_ALLOWED_HEADERS = "Content-Type, Authorization, Idempotency-Key, Last-Event-ID, X-Request-ID"


def register(app: Flask) -> None:
    for guard in (check_host, check_origin, check_machine, check_user, check_token, require_json, admit):
        app.before_request(guard)
    app.after_request(add_headers)


def check_host() -> None:
    """Refuse names that are not ours: a page that has its own name resolve to 127.0.0.1 sends that name."""
    match = _HOST.fullmatch(request.environ.get("HTTP_HOST", ""))
    name = match[1].strip("[]").lower().rstrip(".") if match else ""
    if not _is_loopback_name(name) and name not in _own_names():
        raise AccessDenied(
            "This server does not answer to that Host",
            code="HOST_NOT_ALLOWED",
            hint="Use http://localhost or http://127.0.0.1, or list the name in the setting allowed_hosts.",
        )


def check_origin() -> Response | None:
    """Refuse requests that a page of another origin causes, whatever the method; answer CORS preflights."""
    origin = request.headers.get("Origin")
    if origin is not None and origin in services().settings.allowed_origins:
        return _preflight(origin) if request.method == "OPTIONS" else None
    own = f"{request.scheme}://{request.host}"
    from_elsewhere = origin is not None and origin != own
    site = request.headers.get("Sec-Fetch-Site", "none")
    if (from_elsewhere or site not in ("none", "same-origin")) and not _is_navigation_to_a_page():
        raise AccessDenied(
            "Pages of other origins may not use this server",
            code="ORIGIN_NOT_ALLOWED",
            hint="A development server of the frontend can be listed in the setting allowed_origins.",
        )
    return None


def check_machine() -> None:
    """Refuse other machines where no token tells who they are.

    Our own server does not listen to them then; a foreign WSGI server may.
    """
    if services().token is None and is_another_machine(request.environ.get("REMOTE_ADDR", "")):
        raise AccessDenied(
            "Other machines are let in only with a token, and none is set",
            code="TOKEN_NOT_SET",
            hint="Set token_file, or have the server listen on 127.0.0.1.",
        )


def check_user() -> None:
    """Refuse the processes of other users of this machine."""
    peer, peers = tcp_peer(), services().peers
    # Without a TCP peer: a unix socket, or another WSGI server's, which says nothing.
    allowed = peers.allows(peer) if peer else peers.allows_user(request.environ.get(PEER_UID))
    if not allowed:
        raise AccessDenied(
            "This server belongs to another user of this machine",
            code="USER_NOT_ALLOWED",
            hint="Start your own, or have its owner list you (a reverse proxy, say) in allowed_users.",
        )


def check_token() -> None:
    """With a token set, every request to the API has to bring it."""
    token = services().token
    if token is None or not _is_for_programs() or request.path == "/api/health":
        return
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise TokenRequired(
            "A token is required",
            hint="Send the header Authorization: Bearer TOKEN, with the token of this server's token_file.",
        )


def require_json() -> None:
    """A body is JSON and says so: a web page cannot send that type without asking first (CORS)."""
    has_body = request.content_length != 0 and (
        request.content_length is not None or "Transfer-Encoding" in request.headers
    )
    if has_body and request.method not in ("GET", "HEAD") and request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")


def admit() -> None:
    """All guards are passed; what is refused from here on is not refused to a stranger."""
    g.admitted = True


def add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    origin = request.headers.get("Origin")
    if origin is not None and origin in services().settings.allowed_origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-ID"
        response.headers.add("Vary", "Origin")
    return response


def _is_loopback_name(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _own_names() -> set[str]:
    settings = services().settings
    return {name.strip("[]").lower() for name in (*settings.allowed_hosts, settings.host)}


def _is_for_programs() -> bool:
    """The API and the metrics, not the web page."""
    return f"{request.path}/".startswith(("/api/", "/metrics/"))


def _is_navigation_to_a_page() -> bool:
    """A link that a person follows to the web page; it can read nothing, and pages have no effects."""
    headers = request.headers
    return (
        request.method == "GET"
        and not _is_for_programs()
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def _preflight(origin: str) -> Response:
    response = current_app.response_class(status=204)
    response.headers["Access-Control-Allow-Methods"] = _ALLOWED_METHODS
    response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
    response.headers["Access-Control-Max-Age"] = "600"
    return response
