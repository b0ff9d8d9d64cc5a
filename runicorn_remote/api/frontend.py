"""Runicorn's own web page, unchanged, served beside the API.

`/assets/NAME` is a file and `/assets`, `/assets/ID` are pages of the application: a path that is no
file gets the application's `index.html` if a browser is navigating there (it asks for text/html),
and a 404 otherwise, so that a missing script is not answered with a page. Paths below `/api` are
never pages.
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, request, send_file
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from runicorn_remote._version import __version__
from runicorn_remote.api.errors import handle_http_exception

bp = Blueprint("frontend", __name__)

# What the build names by content never changes: name-HASH.js.
_HASHED = re.compile(r"-[A-Za-z0-9_-]{8}\.[a-z0-9]+$")
_FOREVER = "public, max-age=31536000, immutable"

# Windows takes these from its registry, where they may be text/plain.
for _suffix, _type in ((".js", "text/javascript"), (".mjs", "text/javascript"), (".css", "text/css")):
    mimetypes.add_type(_type, _suffix)

_PLAIN_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>runicorn-remote</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }}
</style>
<h1>runicorn-remote {__version__}</h1>
<p>This is the server between your browser and the Runicorn viewers on your SSH hosts. It answers
<a href="/api/health">/api/health</a> and <code>/api/remote/*</code>.</p>
<ul>
<li><a href="/docs">API documentation</a> (<a href="/openapi.json">OpenAPI</a>)
<li><a href="/static/runicorn-remote-client.js">JavaScript client</a>
</ul>
<p>To have Runicorn's web page here, install the <code>runicorn</code> package beside this server, or
start it with <code>--frontend DIRECTORY</code>.</p>
"""


@bp.get("/")
def index() -> Response:
    """The web page, or a short plain one."""
    return _page("") or Response(_PLAIN_PAGE, mimetype="text/html")


def register(app: Flask) -> None:
    """Have paths that no route knows looked up in the web page.

    Not a catch-all route: with one, a POST to a path that does not exist would be a 405.
    """
    app.register_error_handler(NotFound, answer_unknown)


def answer_unknown(error: NotFound) -> Response:
    path = request.path.lstrip("/")
    if request.method in ("GET", "HEAD") and not f"{path}/".startswith("api/"):
        found = _page(path)
        if found is not None:
            return found
    return handle_http_exception(error)


def _page(path: str) -> Response | None:
    """A file of the web page, or its `index.html` for a path that a browser navigates to."""
    file = _file(path) if path else None
    if file is not None:
        hashed = path.startswith("assets/") and _HASHED.search(path)
        return _send(file, _FOREVER if hashed else "no-cache")
    if path and "text/html" not in request.headers.get("Accept", ""):
        return None
    index = _file("index.html")
    return _send(index, "no-cache") if index is not None else None


def _file(path: str) -> Path | None:
    """The file of that name, if there is one inside the web page's directory."""
    directory: Path | None = current_app.config["WEB_UI"]
    joined = safe_join(str(directory), path) if directory is not None else None
    if directory is None or joined is None:
        return None
    file = Path(joined)
    try:
        # safe_join knows names only; a link may still lead out.
        return file if file.is_file() and file.resolve().is_relative_to(directory) else None
    except (OSError, ValueError):  # a name no file system takes
        return None


def _send(file: Path, cache_control: str) -> Response:
    response = send_file(file, conditional=True)
    response.headers["Cache-Control"] = cache_control
    return response
