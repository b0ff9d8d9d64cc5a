"""`hosts list|accept|remove`: the host keys the server trusts."""

from __future__ import annotations

from typing import Any

import click

from runicorn_remote.cli.failures import HOST_KEY, Failure, not_found
from runicorn_remote.cli.host_key import algorithm, confirms
from runicorn_remote.cli.output import Table, print_table, printable
from runicorn_remote.cli.target import SSH_PORT, Target, shown_address, target_argument
from runicorn_remote.cli.verb import Verb, client_verb, shared_options


@click.group(invoke_without_command=True)
@shared_options
@click.pass_context
def hosts(context: click.Context) -> None:
    """Host keys that are trusted: list, accept, remove."""
    if context.invoked_subcommand is None:
        context.invoke(list_keys)


@hosts.command("list")
@client_verb
def list_keys(verb: Verb) -> None:
    """List the keys."""
    entries = verb.client.list_known_hosts()
    table = Table(
        ("HOST", "TYPE", "FINGERPRINT"),
        [
            (shown_address(entry["host"], entry["port"]), entry["key_type"], entry["fingerprint_sha256"])
            for entry in entries
        ],
        "No host key is trusted",
    )
    verb.answer({"entries": entries}, lambda: print_table(table))


@hosts.command()
@target_argument()
@click.option("--fingerprint", metavar="SHA256:...", help="Accept this key and no other, without a question.")
@client_verb
def accept(verb: Verb, target: Target, fingerprint: str | None) -> None:
    """Ask a host for its key and, once you confirm it, trust it.

    A changed key takes the place of the one that was trusted. Nothing is logged in to.
    """
    from runicorn_remote.client import AuthenticationFailed, HostKeyConfirmationRequired

    try:
        # The key is judged before any credential is sent, and there is none.
        verb.client.connect(target.host, target.user, target.port or SSH_PORT, use_agent=False)
    except HostKeyConfirmationRequired as error:
        key = error.host_key
        if fingerprint is None and not confirms(key):
            raise
        if fingerprint not in (None, key.fingerprint_sha256):
            raise Failure(
                f"The host shows another key: {algorithm(key.key_type)} {key.fingerprint_sha256}",
                exit_code=HOST_KEY,
                code=error.code,
                detail=error.detail,
                status=error.status_code,
            ) from error
        error.accept()
        shown = f"{algorithm(key.key_type)} {key.fingerprint_sha256} of {shown_address(key.host, key.port)}"
        verb.answer(
            {"ok": True, "changed": True, "host_key": error.detail["host_key"]},
            lambda: click.echo(f"Trusted from now on: {printable(shown)}"),
        )
        return
    except AuthenticationFailed:
        pass  # past the key
    shown = shown_address(target.host, target.port or SSH_PORT)
    trusted = {entry["fingerprint_sha256"] for entry in verb.client.list_known_hosts()}
    if fingerprint is not None and fingerprint not in trusted:
        raise Failure(
            f"{shown} shows another key, and that one is trusted already",
            exit_code=HOST_KEY,
            code="HOST_KEY_MISMATCH",
        )
    verb.answer(
        {"ok": True, "changed": False, "host_key": None},
        lambda: click.echo(f"The key that {printable(shown)} shows is trusted already"),
    )


@hosts.command()
@target_argument()
@click.option("--type", "key_type", metavar="TYPE", help="Only keys of this type, as ssh-ed25519.")
@client_verb
def remove(verb: Verb, target: Target, key_type: str | None) -> None:
    """Forget a host's keys."""
    # Of all types there are: hashed names do not tell whose they are.
    key_types = [key_type] if key_type else [entry["key_type"] for entry in verb.client.list_known_hosts()]
    port = target.port or SSH_PORT
    removed: list[str] = []
    for one in dict.fromkeys(key_types):
        if verb.client.remove_known_host(host=target.host, port=port, key_type=one)["changed"]:
            removed.append(one)
    shown = shown_address(target.host, port)
    if not removed:
        raise not_found(f"No such key of {shown} is trusted", "HOST_KEY_NOT_FOUND")
    answer: dict[str, Any] = {"ok": True, "changed": True, "removed": removed}
    verb.answer(answer, lambda: click.echo(f"Forgotten: {', '.join(removed)} of {printable(shown)}"))
