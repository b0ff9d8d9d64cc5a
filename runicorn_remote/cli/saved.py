"""`saved list|add|remove`: servers and connections that are kept for the next time."""

from __future__ import annotations

import re
import time
from typing import Any

import click

from runicorn_remote.cli.login import credential_options, read_password
from runicorn_remote.cli.output import Table, print_table, printable, say
from runicorn_remote.cli.profiles import Entry, find_entry
from runicorn_remote.cli.target import SSH_PORT, Target, shown_address, target_argument
from runicorn_remote.cli.verb import Verb, client_verb, shared_options

_SECRETS = {
    "hasSavedPassword": "password",
    "hasSavedPrivateKey": "key",
    "hasSavedPassphrase": "passphrase",
}


@click.group(invoke_without_command=True)
@shared_options
@click.pass_context
def saved(context: click.Context) -> None:
    """Saved servers and connections: list, add, remove."""
    if context.invoked_subcommand is None:
        context.invoke(list_entries)


@saved.command("list")
@client_verb
def list_entries(verb: Verb) -> None:
    """List them. Secrets are never shown, only which are there."""
    entries = verb.client.saved_connections()
    servers = {entry["id"]: entry for entry in entries if entry["kind"] == "server"}
    table = Table(
        ("ID", "NAME", "KIND", "HOST", "DETAILS"),
        [
            (
                entry["id"],
                str(entry.get("name") or "-"),
                entry["kind"],
                _account(servers.get(str(entry.get("serverId")), entry)),
                _details(entry),
            )
            for entry in entries
        ],
        "Nothing is saved",
    )
    verb.answer({"ok": True, "connections": entries}, lambda: print_table(table))


@saved.command()
@click.argument("name")
@target_argument()
@credential_options
@client_verb
def add(verb: Verb, name: str, target: Target, credentials: dict[str, Any]) -> None:
    """Save a server under NAME, with its key file or password if one is given.

    The server of this command keeps the password encrypted. A server of the same account is replaced.
    """
    password = read_password(target, credentials)
    port = target.port or SSH_PORT
    entry: Entry = {
        "kind": "server",
        "id": _server_id(target.user, target.host, port),
        "name": name,
        "host": target.host,
        "port": port,
        "username": target.user,
        "authMethod": "password" if password and not credentials["identity"] else "key",
        "createdAt": int(time.time() * 1000),
    }
    if credentials["identity"]:
        entry["privateKeyPath"] = credentials["identity"]
    if password:
        entry["password"] = password
    others = [
        other
        for other in verb.client.saved_connections()
        if not (other["kind"] == "server" and other["id"] == entry["id"])
    ]
    warning = verb.client.save_connections([*others, entry]).get("warning")
    answer = {"ok": True, "id": entry["id"]}
    verb.answer(
        {**answer, "warning": warning} if warning else answer,
        lambda: click.echo(f"Saved {printable(entry['id'])}"),
    )
    if warning:
        say(warning)


@saved.command()
@click.argument("wanted", metavar="ID")
@client_verb
def remove(verb: Verb, wanted: str) -> None:
    """Forget a saved server and its connections, or one connection, by id or name."""
    entries = verb.client.saved_connections()
    entry = find_entry(entries, wanted)
    gone = [entry]
    if entry["kind"] == "server":
        gone += [other for other in entries if other.get("serverId") == entry["id"]]
    verb.client.save_connections([other for other in entries if other not in gone])
    ids = [other["id"] for other in gone]
    verb.answer({"ok": True, "removed": ids}, lambda: click.echo(f"Forgotten: {printable(', '.join(ids))}"))


def _server_id(username: str, host: str, port: int) -> str:
    """As the web page makes it, so that both mean the same server."""
    username, host = (re.sub("[^A-Za-z0-9]", "_", text) for text in (username, host))
    return f"srv_{username}_{host}_{port}"


def _account(server: Entry) -> str:
    if server["kind"] != "server":
        return "-"
    return f"{server['username']}@{shown_address(server['host'], server['port'])}"


def _details(entry: Entry) -> str:
    if entry["kind"] == "server":
        secrets = [what for flag, what in _SECRETS.items() if entry.get(flag)]
        return ", ".join(secrets) or "-"
    details = [entry.get("condaEnv"), entry.get("remoteRoot")]
    return " ".join(str(detail) for detail in details if detail) or "-"
