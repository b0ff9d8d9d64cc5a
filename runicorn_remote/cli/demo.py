"""`runicorn-remote demo`: the whole journey on this machine alone."""

from __future__ import annotations

import importlib.util
import os

import click

from runicorn_remote.cli.target import PortType

_NEEDED = ("asyncssh", "runicorn")


@click.command()
@click.option(
    "--check", is_flag=True, help="Go through it, clear everything away, and tell whether it worked."
)
@click.option("--port", type=PortType(), metavar="PORT", help="The server's port (23300 if free, else any).")
def demo(port: int | None, check: bool) -> int:
    """See it work on this machine, with an SSH host of its own."""
    if os.name != "posix":
        return _refused("the demo needs a POSIX system, for the SSH host in it")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _refused(f"{' and '.join(missing)} not found: pip install 'runicorn-remote[demo]'")
    from runicorn_remote.demo.run import run

    return run(port, check)


def _refused(reason: str) -> int:
    click.echo(f"runicorn-remote demo: {reason}", err=True)
    return 1
