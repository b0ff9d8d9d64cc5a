"""The server process: waitress, signals, and an end in order.

SIGTERM and SIGINT raise SystemExit in the main thread, where waitress waits for sockets; it then
stops accepting and lets requests finish. After that the services are closed: heartbeat, viewers,
connections.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from flask import Flask
from waitress.server import BaseWSGIServer, create_server

from runicorn_remote._version import __version__
from runicorn_remote.app import create_app
from runicorn_remote.channel import Channel
from runicorn_remote.errors import StateError
from runicorn_remote.logs import configure_logging
from runicorn_remote.private_files import make_private_directory
from runicorn_remote.services import Services
from runicorn_remote.services.secret_keys import check_available
from runicorn_remote.services.state_files import refuse_unsafe_state
from runicorn_remote.services.token import load_token
from runicorn_remote.settings import Settings, SettingsError
from runicorn_remote.systemd_notify import notify

logger = logging.getLogger(__name__)

_OPEN_MAX = 10240


def raise_descriptor_limit() -> None:
    """Have as many descriptors as this user may: every connection through a tunnel is one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    endless = resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that there is no limit, and refuses more than its OPEN_MAX.
    for wanted in (hard, _OPEN_MAX):
        if soft != endless and (wanted == endless or wanted > soft):
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
                return


def serve(settings: Settings) -> int:
    """Run until a signal. Returns the exit status."""
    configure_logging(settings.log_level, settings.log_format)
    raise_descriptor_limit()
    try:
        services = prepared(settings)
        app = create_app(services=services)
    except (SettingsError, StateError) as error:
        logger.error("%s", error)
        return 2
    where: dict[str, object] = (
        {"unix_socket": settings.unix_socket, "unix_socket_perms": "600"}
        if settings.unix_socket
        else {"host": settings.host, "port": settings.port}
    )
    try:
        if settings.unix_socket:
            make_room_for_socket(Path(settings.unix_socket))
        dispatchers: dict[int, Any] = {}
        server = create_server(
            app,
            map=dispatchers,
            **where,
            threads=settings.threads,
            ident=None,
            connection_limit=1000,
            asyncore_use_poll=True,
            # Read on while a request runs, and so notice a client that goes away: event streams end then.
            channel_request_lookahead=1,
            # Flask answers 413 with JSON at its own limit; this one only has to be above it.
            max_request_body_size=settings.max_body_bytes * 2,
        )
    except OSError as error:
        logger.error("Cannot listen on %s: %s", _shown(settings), error.strerror or error)
        return 1
    except StateError as error:
        logger.error("Cannot listen on %s: %s", _shown(settings), error)
        return 1
    for dispatcher in dispatchers.values():  # a name like localhost has several addresses
        if isinstance(dispatcher, BaseWSGIServer):
            dispatcher.channel_class = Channel
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal(services))
    services.start()
    logger.info("runicorn-remote %s listens on %s", __version__, _shown(settings, server))
    notify(READY=1, STATUS=f"Listening on {_shown(settings, server)}")
    try:
        server.run()
    finally:
        logger.info("Shutting down")
        notify(STOPPING=1, STATUS="Shutting down")
        server.close()
        if settings.unix_socket:
            Path(settings.unix_socket).unlink(missing_ok=True)
        services.close()
        logger.info("Shut down")
    return 0


def prepared(settings: Settings) -> Services:
    """The services, once what they rely on is in order. Raises `SettingsError` and `StateError`."""
    refuse_unsafe_state(settings.resolved_state_dir())
    check_available(settings)
    services = Services(settings, token=load_token(settings))
    services.audit.open()
    with contextlib.suppress(StateError):  # a list that cannot be read is said where it is used
        if not settings.store_secrets and services.saved_connections.has_secrets():
            logger.warning("connections.json has secrets, which are not used; the next save removes them")
    return services


def make_room_for_socket(path: Path) -> None:
    """Have a directory that only its owner may enter, and nothing where the socket is to be.

    The mode of the socket itself is set after it is bound; until then, and on systems that ignore it,
    the directory keeps others out. Raises `StateError`, and OSError if another server listens there.
    """
    make_private_directory(path.parent)
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # left by a server that was killed
        else:
            raise OSError(errno.EADDRINUSE, "another server listens there")


def wsgi_app() -> Flask:
    """The application for a foreign WSGI server, started, and closed when the process ends.

    SIGTERM ends a process without any clean-up. Where nobody else handles it, we do.
    """
    settings = Settings.load()
    configure_logging(settings.log_level, settings.log_format)
    services = prepared(settings)
    app = create_app(services=services)
    services.start()
    atexit.register(services.close)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_signal(services))
    return app


def _on_signal(services: Services) -> Callable[[int, FrameType | None], NoReturn]:
    def handle(number: int, frame: FrameType | None) -> NoReturn:
        # A second signal must not interrupt the clean-up.
        for ignored in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        services.shutting_down = True
        services.sessions.cancel_starts()
        services.event_streams.close()
        raise SystemExit(0)

    return handle


def _shown(settings: Settings, server: object = None) -> str:
    if settings.unix_socket:
        return settings.unix_socket
    port = getattr(server, "effective_port", settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"
