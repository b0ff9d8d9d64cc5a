"""The command line: `runicorn-remote`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runicorn_remote._version import __version__
from runicorn_remote.settings import SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except SettingsError as error:
        print(f"runicorn-remote: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from runicorn_remote.cli import demo, serve

    parser = argparse.ArgumentParser(
        prog="runicorn-remote",
        description="Log in to GPU hosts by SSH, start Runicorn's viewer there, open it here.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (serve, demo):
        command.add_parser(commands)
    return parser
