"""`--saved NAME`: a saved server, or a saved connection (a server with environment, storage and ports)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runicorn_remote.cli.failures import not_found
from runicorn_remote.cli.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from runicorn_remote.client import RunicornRemoteClient

Entry = dict[str, Any]
AnyFunction = TypeVar("AnyFunction", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Choice:
    """What `--saved` named. `profile` is empty unless it was a saved connection."""

    server_id: str | None = None
    profile: Entry = field(default_factory=dict)


def saved_option(function: AnyFunction) -> AnyFunction:
    return click.option("--saved", metavar="ID", help="A saved server or connection, by id or name.")(
        function
    )


def chosen(client: RunicornRemoteClient, target: Target | None, saved: str | None) -> Choice:
    """Raises `UsageError` without a target and without `--saved`, and for a name that is not unique."""
    if saved is None:
        if target is None:
            raise click.UsageError("Missing argument '[USER@]HOST[:PORT]', or --saved ID.")
        return Choice()
    entry = find_entry(client.saved_connections(), saved)
    if entry["kind"] == "server":
        return Choice(entry["id"])
    return Choice(entry["serverId"], entry)


def find_entry(entries: list[Entry], wanted: str) -> Entry:
    """By id, else by name. Raises `Failure` if there is none, `UsageError` if there are several."""
    found = [entry for entry in entries if entry["id"] == wanted]
    found = found or [entry for entry in entries if entry.get("name") == wanted]
    if not found:
        raise not_found(
            f"Nothing is saved as {wanted}", "SAVED_SERVER_NOT_FOUND", "See: runicorn-remote saved list"
        )
    if len(found) > 1:
        ids = ", ".join(entry["id"] for entry in found)
        raise click.UsageError(f"{wanted} is not unique; give one of the ids {ids}")
    return found[0]
