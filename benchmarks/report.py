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

from benchmarks.figures import Curve, Outcome, Result, Row, Trial

DIRECTORY = Path(__file__).parent / "results"
_REACHED = {True: "yes", False: "**no**", None: ""}


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


def write(results: Sequence[Result], about: dict[str, Any], directory: Path = DIRECTORY) -> Path:
    """-> the Markdown file; the JSON is beside it."""
    directory.mkdir(exist_ok=True)
    kinds = {"rows": Row, "trials": Trial, "curves": Curve}
    lists = {
        name: [each.as_json() for each in results if isinstance(each, kind)] for name, kind in kinds.items()
    }
    (directory / "results.json").write_text(json.dumps({**about, **lists}, indent=1) + "\n")
    path = directory / "results.md"
    path.write_text(markdown(results, about))
    return path


def markdown(results: Sequence[Result], about: dict[str, Any]) -> str:
    rows = [each for each in results if isinstance(each, Row)]
    trials = [each for each in results if isinstance(each, Trial)]
    curves = [each for each in results if isinstance(each, Curve)]
    lines = [
        f"Measured {about['date']}: `{about['command']}`, {about['seconds']:.0f} s; {about['system']}, "
        f"{about['cores']} cores, Python {about['python']}, paramiko {about['paramiko']}, {about['ssh']}. "
        f"Load average before {about['load']:.1f}, after {about['load_after']:.1f}.",
    ]
    if rows:
        head = ["| what | ours | others | ratio | bar | reached |", "|---|---|---|---|---|---|"]
        lines += ["", *head, *map(_row_line, rows)]
    if trials:
        lines += [
            "",
            "| torture | ours | others | survived |",
            "|---|---|---|---|",
            *map(_trial_line, trials),
        ]
    if curves:
        lines += ["", "| how it grows | number: value | n^a, a = | the curve is |", "|---|---|---|---|"]
        lines += map(_curve_line, curves)
    notes = [f"- {each.name}: {each.note}." for each in results if each.note]
    notes += [
        f"- {each.name}: {who} failed: {why}." for each in results for who, why in failures(each).items()
    ]
    return "\n".join([*lines, "", *notes]) + "\n"


def failures(result: Result) -> dict[str, str]:
    """Who could not be measured -> why."""
    if isinstance(result, Trial):
        return {who: outcome.failed for who, outcome in result.outcomes.items() if outcome.failed}
    if isinstance(result, Row):
        if result.skipped.startswith("failed"):
            return {result.name: result.skipped}
        return result.failed
    return {}


def _row_line(row: Row) -> str:
    if row.skipped:
        return f"| {row.name} | | skipped: {row.skipped} | | | |"
    others = [f"{who} {_shown(values, row.unit)}" for who, values in row.values.items() if who != row.ours]
    others += [f"{who} failed" for who in row.failed if who not in row.values]
    ratios = row.ratios()
    ratio = ""
    if row.ratio is not None:
        ratio = f"**{row.ratio:.2f}** to {row.against}"
        if len(ratios) > 1:
            ratio += f" ({min(ratios):.2f}–{max(ratios):.2f})"
    ours = _shown(row.values.get(row.ours, []), row.unit)
    bar = f"{row.bar}" if row.bar else ""
    return f"| {row.name} | {ours} | {'; '.join(others)} | {ratio} | {bar} | {_REACHED[row.reached]} |"


def _trial_line(trial: Trial) -> str:
    others = [
        f"{who} {_outcome(outcome, trial.seconds.get(who, ()))}"
        for who, outcome in trial.outcomes.items()
        if who != trial.ours
    ]
    ours = _outcome(trial.outcomes[trial.ours], trial.seconds.get(trial.ours, ()))
    return f"| {trial.name} | {ours} | {'; '.join(others)} | {_REACHED[trial.reached]} |"


def _outcome(outcome: Outcome, seconds: Sequence[float]) -> str:
    if outcome.failed:
        return "failed"
    text = (
        f"{'survived' if outcome.survived else '**did not survive**'}, {outcome.right} of {outcome.of} right"
    )
    if outcome.damaged:
        text += f", **{outcome.damaged} damaged**"
    return f"{text}, {_shown(seconds, 's')}"


def _curve_line(curve: Curve) -> str:
    points = ", ".join(f"{number}: {_shown(values, curve.unit)}" for number, values in curve.points.items())
    exponent = "" if curve.exponent is None else f"{curve.exponent:.2f}"
    if curve.fitted_from > 1:
        exponent += f", from {curve.fitted_from} on"
    return f"| {curve.name} | {points} | {exponent} | {curve.word} |"


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
