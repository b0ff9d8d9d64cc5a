"""The rows as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import paramiko

from benchmarks.figures import Row

DIRECTORY = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures depend on, and how busy it was before."""
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.strip()
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "paramiko": paramiko.__version__,
        "ssh": ssh.split(",")[0],
        "load": os.getloadavg()[0],
    }


def write(rows: Sequence[Row], about: dict[str, Any]) -> Path:
    """-> the Markdown file; the JSON is beside it."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / "results.json").write_text(
        json.dumps({**about, "rows": [row.as_json() for row in rows]}, indent=1) + "\n"
    )
    path = DIRECTORY / "results.md"
    path.write_text(markdown(rows, about))
    return path


def markdown(rows: Sequence[Row], about: dict[str, Any]) -> str:
    lines = [
        f"Measured {about['date']}: `{about['command']}`, {about['seconds']:.0f} s; {about['system']}, "
        f"{about['cores']} cores, Python {about['python']}, paramiko {about['paramiko']}, {about['ssh']}. "
        f"Load average before {about['load']:.1f}, after {about['load_after']:.1f}.",
        "",
        "| what | ours | others | ratio | bar | reached |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in rows]
    notes = [f"- {row.name}: {row.note}." for row in rows if row.note]
    return "\n".join([*lines, "", *notes]) + "\n"


def _line(row: Row) -> str:
    if row.skipped:
        return f"| {row.name} | | skipped: {row.skipped} | | | |"
    others = [f"{who} {_shown(values, row.unit)}" for who, values in row.values.items() if who != row.ours]
    ratios = row.ratios()
    ratio = ""
    if row.ratio is not None:
        ratio = f"**{row.ratio:.2f}** to {row.against}"
        if len(ratios) > 1:
            ratio += f" ({min(ratios):.2f}–{max(ratios):.2f})"
    reached = {True: "yes", False: "**no**", None: ""}[row.reached]
    ours = _shown(row.values.get(row.ours, []), row.unit)
    bar = f"{row.bar}" if row.bar else ""
    return f"| {row.name} | {ours} | {'; '.join(others)} | {ratio} | {bar} | {reached} |"


def _shown(values: Sequence[float], unit: str) -> str:
    """The median, and the lowest and highest."""
    if not values:
        return ""
    text = f"{_number(statistics.median(values))} {unit}".strip()
    spread = f" ({_number(min(values))}–{_number(max(values))})"
    return text + (spread if len(values) > 1 and max(values) > min(values) else "")


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"
