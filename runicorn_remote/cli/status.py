"""Connections and viewers at a glance, once or live."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import click

from runicorn_remote.cli.output import Table, drawn, is_terminal, print_plainly, printable
from runicorn_remote.cli.target import shown_address

if TYPE_CHECKING:
    from rich.console import Group

    from runicorn_remote.client import RunicornRemoteClient
    from runicorn_remote.client.shapes import Status, ViewerSession

_REFRESH_INTERVAL = 1.0


def print_status(status: Status) -> None:
    if is_terminal(sys.stdout):
        from rich.console import Console

        Console().print(_picture(status))
        return
    for number, table in enumerate(_tables(status)):
        if number:
            click.echo()
        if table.rows:
            print_plainly(table)
        else:
            click.echo(table.empty)
    for line in _errors(status):
        click.echo(line)


def watch_status(client: RunicornRemoteClient) -> None:
    """In a terminal, until Ctrl-C. A server that goes away is waited for. Raises if it never was there."""
    import requests
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    pause = threading.Event()
    shown = _picture(client.status())
    with Live(shown, console=Console(), auto_refresh=False) as live:
        try:
            while not pause.wait(_REFRESH_INTERVAL):
                try:
                    shown = _picture(client.status())
                    live.update(shown, refresh=True)
                except requests.RequestException:
                    note = Text("\nThe server does not answer; above is what it said last.", style="red")
                    live.update(Group(shown, note), refresh=True)
        except KeyboardInterrupt:
            return


def _picture(status: Status) -> Group:
    from rich.console import Group
    from rich.text import Text

    connections, viewers = (drawn(table) if table.rows else Text(table.empty) for table in _tables(status))
    errors = [Text(line, style="red") for line in _errors(status)]
    return Group(connections, Text(), viewers, *errors)


def _tables(status: Status) -> tuple[Table, Table]:
    connections = Table(
        ("CONNECTION", "STATE"),
        [(item["key"], "connected" if item["connected"] else "lost") for item in status["connections"]],
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
