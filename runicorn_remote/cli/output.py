"""What is printed: JSON, tables, and never a control character that somebody else chose.

Results go to stdout, everything said on the way to stderr. `rich` draws for terminals only; a pipe
gets plain text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_STYLES = {
    "connected": "green",
    "running": "green",
    "connecting": "yellow",
    "reconnecting": "yellow",
    "stopping": "yellow",
    "degraded": "red",
    "disconnected": "red",
    "lost": "red",
    "error": "red",
    "stopped": "dim",
}


@dataclass(frozen=True)
class Table:
    """Cells are texts from anywhere; they are made printable here."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    # Said in place of a table without rows.
    empty: str


def write_json(document: Any) -> None:
    """The one JSON document. In ASCII: it is right in every locale and has no control characters."""
    click.echo(json.dumps(document, indent=2))


def say(text: str) -> None:
    """Tell a person something on the way: to stderr."""
    click.echo(printable(text, lines=True), err=True)


def print_table(table: Table) -> None:
    """To stdout; a table without rows is a sentence, which is nobody's data: to stderr."""
    if not table.rows:
        say(table.empty)
    elif is_terminal(sys.stdout):
        from rich.console import Console

        Console().print(drawn(table))
    else:
        print_plainly(table)


def print_plainly(table: Table) -> None:
    """Aligned columns below a header, two blanks between them."""
    lines = [table.columns, *([printable(cell) for cell in row] for row in table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def drawn(table: Table) -> RichTable:
    """For `rich` to print. What does not fit is folded, never cut off: people copy ids and addresses."""
    from rich.table import Table as RichTable
    from rich.text import Text

    picture = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(table.columns):
        picture.add_column(column, overflow="fold", no_wrap=place == 0)
    for row in table.rows:
        picture.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    return picture


def printable(text: str, *, lines: bool = False) -> str:
    """Without anything that could steer a terminal: file names, logs and errors come from other machines.

    Control characters, direction marks and lone surrogates are written as escapes; with `lines`, line
    ends and tabs stay.
    """
    kept = "\n\t" if lines else ""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in kept else _escaped(char) for char in text)


def shown_size(size: float) -> str:
    """Bytes, for people: `999`, `1.5K`, `20M`."""
    for unit in ("", "K", "M", "G", "T"):
        if size < 1000 or unit == "T":
            break
        size /= 1024
    return f"{size:.1f}{unit}" if unit and size < 10 else f"{size:.0f}{unit}"


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
