"""The application factory. It starts no thread: the server starts the `Services` it is given."""

from __future__ import annotations

from flask import Flask

from runicorn_remote.api import (
    app_shell,
    connections,
    environments,
    errors,
    files,
    frontend,
    guards,
    health,
    hosts,
    installs,
    known_hosts,
    local_viewer,
    observe,
    openapi,
    probes,
    saved_connections,
    status,
    viewer_events,
    viewers,
)
from runicorn_remote.services import Services
from runicorn_remote.services.web_ui import find_web_ui
from runicorn_remote.settings import Settings

BLUEPRINTS = (
    connections.bp,
    known_hosts.bp,
    environments.bp,
    viewers.bp,
    viewer_events.bp,
    files.bp,
    hosts.bp,
    installs.bp,
    status.bp,
    saved_connections.bp,
    health.bp,
)


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Build the WSGI application.

    `services` may be given (tests give fakes); else they are built from `settings`, by default from
    the configuration file and the environment. The caller starts and closes `app.extensions[
    "runicorn_remote"]`; under a foreign WSGI server `wsgi.py` does.
    """
    if services is None:
        services = Services(settings or Settings.load())
    app = Flask("runicorn_remote", static_folder="static")
    app.config.update(
        MAX_CONTENT_LENGTH=services.settings.max_body_bytes,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.strict_slashes = False
    # A redirect for //x would be HTML; a path that does not exist is a 404.
    app.url_map.merge_slashes = False
    app.extensions["runicorn_remote"] = services
    api = openapi.create(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    settings = services.settings
    app.config.update(WEB_UI=find_web_ui(settings.frontend), LOCAL_VIEWER=settings.local_viewer)
    app.register_blueprint(frontend.bp)
    probes.register(app)
    if settings.local_viewer:
        app.register_blueprint(local_viewer.bp)
    else:
        api.register_blueprint(app_shell.bp)
    openapi.document_errors(api)
    errors.register(app)
    frontend.register(app)
    observe.register(app)
    guards.register(app)
    return app
