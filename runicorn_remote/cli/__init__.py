"""The command line: `runicorn-remote`.

`serve` and `demo` run the server, `rotate-key` and `doctor` work without one; every other verb is a
client of a server that runs (`verb.py`). What is slow to import (rich, requests, flask, fabric) is
imported where it is used, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from runicorn_remote._version import __version__
from runicorn_remote.cli import connections, demo, doctor, hosts, install, rotate_key, saved, serve, viewers
from runicorn_remote.cli.failures import EXIT_STATUSES, INTERRUPTED, USAGE, Failure
from runicorn_remote.cli.verb import TOKEN_VARIABLE, URL_VARIABLE, shared_options

_EPILOG = f"""\b
Environment:
  {URL_VARIABLE}    the server, as --url
  {TOKEN_VARIABLE}  its token

\b
{EXIT_STATUSES}"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG, no_args_is_help=False)
@click.version_option(__version__, message="%(prog)s %(version)s")
@shared_options
def command_line() -> None:
    """Log in to GPU hosts by SSH, start Runicorn's viewer there, open it here."""


for _command in (
    serve.serve,
    demo.demo,
    connections.connect,
    connections.envs,
    connections.browse,
    install.install,
    viewers.start,
    viewers.list_all,
    viewers.stop,
    viewers.logs,
    connections.disconnect,
    hosts.hosts,
    saved.saved,
    rotate_key.rotate_key,
    doctor.doctor,
):
    command_line.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (`failures.EXIT_STATUSES`).

    Raises `SystemExit(2)` for arguments that cannot be understood.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _escape_what_cannot_be_encoded()
    try:
        status = command_line.main(arguments, prog_name="runicorn-remote", standalone_mode=False)
    except click.UsageError as error:
        _show(error, arguments)
        raise SystemExit(USAGE) from None
    except click.ClickException as error:
        _show(error, arguments)
        return error.exit_code
    except click.Abort:
        _show(Failure("Interrupted", code="INTERRUPTED"), arguments)
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _show(error: click.ClickException, arguments: list[str]) -> None:
    """As JSON if that was asked for: the arguments may be what could not be understood."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" not in options:
        error.show()
        return
    failure = error if isinstance(error, Failure) else Failure(error.format_message(), code="USAGE")
    failure.as_json = True
    failure.show()


def _escape_what_cannot_be_encoded() -> None:
    """In a locale without UTF-8 a message is printed with escapes rather than not at all."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
