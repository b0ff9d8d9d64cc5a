"""`connect`, `disconnect`, `envs`, `browse`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from runicorn_remote.cli.failures import not_found
from runicorn_remote.cli.login import credential_options, login_of
from runicorn_remote.cli.output import Table, print_table, printable, say, shown_size
from runicorn_remote.cli.profiles import chosen, saved_option
from runicorn_remote.cli.target import SSH_PORT, Target, target_argument
from runicorn_remote.cli.verb import Verb, client_verb

if TYPE_CHECKING:
    from runicorn_remote.client.shapes import DirectoryItem


@click.command()
@target_argument(required=False)
@saved_option
@credential_options
@client_verb
def connect(verb: Verb, target: Target | None, saved: str | None, credentials: dict[str, Any]) -> None:
    """Log in to a host, or check that the connection is alive.

    Without any credential option, the server's SSH agent and its default keys are tried. An unknown
    host key is asked about.
    """
    choice = chosen(verb.client, target, saved)
    login = login_of(target, credentials, choice.server_id)
    answer = login.attempt(verb.client.connect)
    verb.answer(answer, lambda: click.echo(f"Connected to {printable(answer['connection_id'])}"))


@click.command()
@target_argument(required=False)
@click.option("--stop-viewers", is_flag=True, help="Stop its viewers too; without this they go on.")
@client_verb
def disconnect(verb: Verb, target: Target | None, stop_viewers: bool) -> None:
    """Close a connection; without a host, the only one there is."""
    target = target or only_connection(verb)
    answer = verb.client.disconnect(
        host=target.host, port=target.port or SSH_PORT, username=target.user, stop_viewers=stop_viewers
    )
    if not answer["ok"] and not stop_viewers:
        raise not_found(f"There is no connection to {target.connection_id}", "CONNECTION_NOT_FOUND")
    told = "Disconnected from" if answer["ok"] else "There was no connection of yours, and is no viewer, on"
    verb.answer(answer, lambda: click.echo(f"{told} {printable(target.connection_id)}"))


@click.command()
@target_argument(required=False)
@client_verb
def envs(verb: Verb, target: Target | None) -> None:
    """List the Python environments of a connected host, and the runicorn in each.

    Without a host: of the only connection there is. The default environment has a star.
    """
    connection_id = (target or only_connection(verb)).connection_id
    environments = verb.client.list_conda_envs(connection_id=connection_id)
    versions = verb.client.env_configs(connection_id=connection_id)
    runicorn = {name: config["runicornVersion"] for name, config in versions.items()}
    found: list[dict[str, Any]] = [
        {**item, "runicornVersion": runicorn.get(item["name"])} for item in environments
    ]
    table = Table(
        ("", "NAME", "TYPE", "PYTHON", "RUNICORN", "INTERPRETER"),
        [
            (
                "*" if item["is_default"] else "",
                item["name"],
                item["type"],
                item["python_version"].removeprefix("Python "),
                item["runicornVersion"] or "-",
                item["path"],
            )
            for item in found
        ],
        "No Python environment found",
    )
    verb.answer({"ok": True, "envs": found}, lambda: print_table(table))


@click.command()
@target_argument()
@click.argument("path", default="~")
@client_verb
def browse(verb: Verb, target: Target, path: str) -> None:
    """List a directory of a connected host; its home without PATH."""
    answer = verb.client.list_directory(connection_id=target.connection_id, path=path)
    table = Table(
        ("MODIFIED", "SIZE", "NAME"), [_row(item) for item in answer["items"]], f"{answer['path']} is empty"
    )
    verb.answer(answer, lambda: print_table(table))
    if answer.get("truncated"):
        say("There is more; this is only the beginning")


def only_connection(verb: Verb) -> Target:
    """For a verb without a host. Raises `Failure` or `UsageError` unless there is exactly one."""
    sessions = verb.client.list_sessions()
    if not sessions:
        raise not_found(
            "There is no connection",
            "CONNECTION_NOT_FOUND",
            "Log in first: runicorn-remote connect USER@HOST",
        )
    if len(sessions) > 1:
        names = ", ".join(printable(session["key"]) for session in sessions)
        raise click.UsageError(f"Which one? There are {names}")
    (session,) = sessions
    return Target(session["host"], session["username"], session["port"])


def _row(item: DirectoryItem) -> tuple[str, str, str]:
    try:
        modified = datetime.fromtimestamp(item["mtime"]).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):  # a time stamp of another age
        modified = "-"
    if item["is_dir"]:
        return modified, "-", item["name"] + "/"
    return modified, shown_size(item["size"]), item["name"]
