"""`runicorn-remote serve`: the server."""

from __future__ import annotations

import argparse
from typing import Any

from runicorn_remote.settings import Settings

_FLAGS = ("host", "port", "unix_socket", "state_dir", "frontend", "local_viewer", "threads", "log_level")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("serve", help="run the server until Ctrl-C")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (23300)")
    parser.add_argument("--unix-socket", metavar="PATH", help="listen on a unix socket instead")
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    parser.add_argument("--state-dir", metavar="DIR", help="where known_hosts and saved connections are")
    parser.add_argument("--frontend", metavar="auto|off|DIR", help="the web page to serve at / (auto)")
    parser.add_argument("--local-viewer", metavar="URL", help="a local viewer for all but /api/remote")
    parser.add_argument("--threads", type=int, help="worker threads (16)")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from runicorn_remote.server import serve

    flags = {name: getattr(arguments, name) for name in _FLAGS}
    return serve(Settings.load(arguments.config, flags=flags))
