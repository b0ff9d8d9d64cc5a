"""`install`: runicorn for a host that has none."""

from __future__ import annotations

import click

from runicorn_remote.cli.connections import only_connection
from runicorn_remote.cli.failures import NOT_FOUND, Failure
from runicorn_remote.cli.output import printable, say
from runicorn_remote.cli.target import Target, target_argument
from runicorn_remote.cli.verb import Verb, client_verb


@click.command()
@target_argument(required=False)
@click.option("--env", metavar="NAME", help="An environment of the host; by default one of runicorn's own.")
@click.option("--version", metavar="VERSION", help="Which runicorn; by default that of the server.")
@client_verb
def install(verb: Verb, target: Target | None, env: str | None, version: str | None) -> None:
    """Install runicorn on a connected host.

    By uv or pip, from the host's package index, or with packages that the server fetches if the host has
    no network. Prints the environment that start --env takes. Ctrl-C takes it back. Without a host: on the
    only connection there is.
    """
    from runicorn_remote.client import InstallFailed

    connection_id = (target or only_connection(verb)).connection_id
    try:
        done = verb.client.install_runicorn(
            connection_id=connection_id, conda_env=env, version=version, on_line=say
        )
    except InstallFailed as error:
        code = error.code or "INSTALL_FAILED"
        exit_code = NOT_FOUND if code == "ENVIRONMENT_NOT_FOUND" else 1
        raise Failure(str(error), exit_code=exit_code, code=code, hint=error.hint) from error
    result = done["result"]
    assert result is not None
    say(f"runicorn {result['runicornVersion']} is in {result['python']}")
    verb.answer(done, lambda: click.echo(printable(result["condaEnv"])))
