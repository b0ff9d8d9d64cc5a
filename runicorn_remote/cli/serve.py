"""`runicorn-remote serve`: the server."""

from __future__ import annotations

from typing import Any

import click

from runicorn_remote.cli.failures import USAGE, Failure


@click.command()
@click.option("--host", metavar="ADDRESS", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=int, metavar="PORT", help="Port to listen on (23300).")
@click.option("--unix-socket", metavar="PATH", help="Listen on a unix socket instead.")
@click.option("--config", metavar="FILE", help="TOML file with settings.")
@click.option("--state-dir", metavar="DIR", help="Where known_hosts and saved connections are.")
@click.option("--frontend", metavar="auto|off|DIR", help="The web page to serve at / (auto).")
@click.option("--local-viewer", metavar="URL", help="A local viewer for all but /api/remote.")
@click.option("--threads", type=int, metavar="N", help="Worker threads (32).")
@click.option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
@click.option("--log-format", metavar="text|json", help="The form of the log (text).")
def serve(config: str | None, **flags: Any) -> int:
    """Run the server until Ctrl-C."""
    from runicorn_remote.server import serve
    from runicorn_remote.settings import Settings, SettingsError

    try:
        settings = Settings.load(config, flags=flags)
    except SettingsError as error:
        raise Failure(str(error), exit_code=USAGE, code="SETTINGS") from error
    return serve(settings)
