"""`runicorn-remote demo`: the whole journey on this machine alone."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from typing import Any

_NEEDED = ("asyncssh", "runicorn")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("demo", help="see it work on this machine, with an SSH host of its own")
    parser.add_argument(
        "--check",
        action="store_true",
        help="go through it, clear everything away, and tell whether it worked",
    )
    parser.add_argument("--port", type=_port, help="the server's port (23300 if free, else any)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if os.name != "posix":
        return _refused("the demo needs a POSIX system, for the SSH host in it")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return _refused(f"{' and '.join(missing)} not found: pip install 'runicorn-remote[demo]'")
    from runicorn_remote.demo.run import run as run_demo

    return run_demo(arguments.port, arguments.check)


def _refused(reason: str) -> int:
    print(f"runicorn-remote demo: {reason}", file=sys.stderr)
    return 1


def _port(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return number
