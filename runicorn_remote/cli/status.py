"""Connections and viewers at a glance, once or live."""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from runicorn_remote.cli.output import Table, drawn, is_terminal, print_plainly, printable
from runicorn_remote.cli.resources import COLUMNS, ResourceWatch, cells
from runicorn_remote.cli.target import shown_address

if TYPE_CHECKING:
    from rich.console import Group

    from runicorn_remote.cli.resources import NewClient
    from runicorn_remote.client import RunicornRemoteClient
    from runicorn_remote.client.shapes import Status, ViewerSession

_REFRESH_INTERVAL = 1.0


def print_status(status: Status, resources: dict[str, Any] | None = None) -> None:
    """`resources`: what `resources.ask_all` found; None to leave these columns out."""
    if is_terminal(sys.stdout):
        from rich.console import Console

        Console().print(_picture(status, resources))
        return
    for number, table in enumerate(_tables(status, resources)):
        if number:
            click.echo()
        if table.rows:
            print_plainly(table)
        else:
            click.echo(table.empty)
    for line in _errors(status):
        click.echo(line)


def watch_status(client: RunicornRemoteClient, new_client: NewClient | None) -> None:
    """In a terminal, until Ctrl-C. A server that goes away is waited for. Raises if it never was there.

    `new_client`: who asks for the hosts' resources, if they are to be shown.
    """
    import requests
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    pause = threading.Event()
    status = client.status()
    watch = ResourceWatch(status, new_client) if new_client is not None else None
    shown = _picture(status, None if watch is None else watch.found)
    with watch or nullcontext(), Live(shown, console=Console(), auto_refresh=False) as live:
        try:
            while not pause.wait(_REFRESH_INTERVAL):
                try:
                    status = client.status()
                    if watch is not None:
                        watch.status = status
                    shown = _picture(status, None if watch is None else watch.found)
                    live.update(shown, refresh=True)
                except requests.RequestException:
                    note = Text("\nThe server does not answer; above is what it said last.", style="red")
                    live.update(Group(shown, note), refresh=True)
        except KeyboardInterrupt:
            return


def _picture(status: Status, resources: dict[str, Any] | None) -> Group:
    from rich.console import Group
    from rich.text import Text

    tables = _tables(status, resources)
    connections, viewers = (drawn(table) if table.rows else Text(table.empty) for table in tables)
    errors = [Text(line, style="red") for line in _errors(status)]
    return Group(connections, Text(), viewers, *errors)


def _tables(status: Status, resources: dict[str, Any] | None) -> tuple[Table, Table]:
    connections = Table(
        ("CONNECTION", "STATE", *(COLUMNS if resources is not None else ())),
        [
            (
                item["key"],
                "connected" if item["connected"] else "lost",
                *(cells(resources.get(item["key"])) if resources is not None else ()),
            )
            for item in status["connections"]
        ],
        "No connections",
    )
    viewers = Table(
        ("VIEWER", "STATUS", "ADDRESS", "HOST", "ENV", "UPTIME", "ROOT"),
        [
            (
                session["sessionId"],
                session["status"],
                session["url"],
                _account(session),
                session["condaEnv"] or "-",
                shown_duration(session["uptimeSeconds"]),
                session["remoteRoot"],
            )
            for session in status["viewer_sessions"]
        ],
        "No viewers",
    )
    return connections, viewers


def _errors(status: Status) -> list[str]:
    return [
        printable(f"{session['sessionId']}: {session['error']}", lines=True)
        for session in status["viewer_sessions"]
        if session["error"]
    ]


def _account(session: ViewerSession) -> str:
    return f"{session['username']}@{shown_address(session['host'], session['sshPort'])}"


def shown_duration(seconds: float) -> str:
    """`45s`, `12m`, `3h07m`, `2d4h`."""
    minutes = int(seconds) // 60
    if minutes == 0:
        return f"{int(seconds)}s"
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02}m"
    return f"{minutes // 1440}d{minutes % 1440 // 60}h"
