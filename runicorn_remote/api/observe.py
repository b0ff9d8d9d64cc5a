"""What is kept of every request: its id, a line in the log, its count and time, and for actions a line in
the audit log.

Actions are the requests below `/api/remote` that are not a GET; a request that a guard refuses is one of
the action `refused`. What an action was about is taken from its validated arguments, by names that are
never a secret's; a view adds with `about` what only it knows.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, g, request

from runicorn_remote.api.base import services
from runicorn_remote.api.peer import caller
from runicorn_remote.errors import RemoteError
from runicorn_remote.logs import request_id
from runicorn_remote.services.audit import Caller
from runicorn_remote.services.connections import Login
from runicorn_remote.ssh.target import Target

logger = logging.getLogger(__name__)

HEADER = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUESTIONS = ("GET", "HEAD", "OPTIONS")
# Other actions are called as their view is: `environments.install`.
_ACTIONS = {
    "connections.connect": "connect",
    "connections.disconnect": "disconnect",
    "viewers.start": "viewer.start",
    "viewers.stop": "viewer.stop",
    "saved_connections.save_connections": "saved_connections.write",
}
_ABOUT = (
    "connection_id",
    "session_id",
    "host",
    "port",
    "username",
    "saved_server_id",
    "key_type",
    "fingerprint_sha256",
    "conda_env",
    "remote_root",
    "stop_viewers",
)


def register(app: Flask) -> None:
    """Call it before `guards.register`: refused requests are kept as well."""
    app.before_request(begin)
    app.after_request(finish)
    app.teardown_request(leave)


def about(**target: str | int) -> None:
    """Add to what the audit log says this action was about."""
    g.about = {**g.get("about", {}), **target}


def begin() -> None:
    g.began = time.perf_counter()
    given = request.headers.get(HEADER, "")
    request_id.set(given if _SANE_ID.fullmatch(given) else secrets.token_hex(8))
    if _is_action() and services().audit.enabled:
        g.caller = Caller(*caller())  # now: somebody who waits in vain for a host may be gone when it is over


def finish(response: Response) -> Response:
    seconds = time.perf_counter() - g.began
    response.headers[HEADER] = request_id.get() or ""
    route = request.url_rule.rule if request.url_rule is not None else None
    services().metrics.request(route, request.method, response.status_code, seconds)
    _audit(response, route, seconds * 1000)
    # Pages ask for the status every few seconds; what changes something is worth a line.
    level = logging.DEBUG if request.method in _QUESTIONS else logging.INFO
    logger.log(
        level, "%s %s: %d in %.1f ms", request.method, request.path, response.status_code, seconds * 1000
    )
    return response


def leave(error: BaseException | None) -> None:
    """The thread goes on with other requests."""
    request_id.set(None)


def _audit(response: Response, route: str | None, ms: float) -> None:
    audit = services().audit
    failed = response.status_code >= 400
    result = g.get("error_code", str(response.status_code)) if failed else "ok"
    if failed and "admitted" not in g:
        if audit.has_room_for_refusal():
            headers = {name.lower(): request.headers.get(name) for name in ("Host", "Origin")}
            target = {"method": request.method, "route": route, **headers}
            audit.write("refused", result, target=target, caller=g.get("caller") or Caller(*caller()), ms=ms)
    elif audit.enabled and _is_action():
        endpoint = request.endpoint or ""
        audit.write(_ACTIONS.get(endpoint, endpoint), result, target=_target(), caller=g.get("caller"), ms=ms)


def _is_action() -> bool:
    rule = request.url_rule
    return rule is not None and rule.rule.startswith("/api/remote") and request.method not in _QUESTIONS


def _target() -> dict[str, Any]:
    arguments = g.get("arguments")
    values: dict[str, Any] = {}
    if isinstance(arguments, list):
        values["entries"] = len(arguments)
    if isinstance(arguments, Mapping):
        login = arguments.get("login")
        for source in (vars(login) if isinstance(login, Login) else {}, arguments):
            values.update({name: source[name] for name in _ABOUT if source.get(name) is not None})
    values.update(g.get("about", {}))
    return _with_connection_id(values)


def _with_connection_id(values: dict[str, Any]) -> dict[str, Any]:
    """An account as everything else names it."""
    if "username" in values and "host" in values:
        host, username = values.pop("host"), values.pop("username")
        port = values.pop("port", None) or 22
        try:
            connection_id = Target.of(host, port, username).connection_id
        except RemoteError:  # it was refused for that
            connection_id = f"{username}@{host}:{port}"
        values = {"connection_id": connection_id, **values}
    return values
