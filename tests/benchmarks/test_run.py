"""The command itself, on one cheap subject with one round: that it still measures, not what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.run import GROUPS, SUBJECTS
from tests.hosts.server import REPOSITORY
from tests.hosts.sshd import _find

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(sys.platform != "linux", reason="the measurements read /proc"),
]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the results go; skips without OpenSSH."""
    for program in ("ssh", "sshd"):
        _find(program)
    return tmp_path


def test_the_budgets_are_what_is_promised() -> None:
    usual = [subject for subject in SUBJECTS.values() if not subject.only_if_asked]
    assert sum(subject.seconds for subject in usual) <= 600
    assert sum(subject.quick for subject in usual) <= 180
    assert {name for names in GROUPS.values() for name in names} <= SUBJECTS.keys()


def test_one_subject_is_measured_and_written(output: Path) -> None:
    done = run(output, "connect")
    assert done.returncode == 0, done.stderr
    near, far = results(output)["rows"]
    assert all(len(values) == 1 for values in (near["values"]["ours"], near["values"]["ssh"]))
    assert near["ratio"] > 0
    assert far["values"]["ssh"][0] > 0.1  # the wire is long
    assert "| cold connect |" in (output / "results.md").read_text()


def test_a_contestant_that_fails_does_not_take_the_others_with_it(output: Path) -> None:
    programs = output / "programs"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/sh\nexit 255\n")
    (programs / "ssh").chmod(0o755)
    done = run(output, "connect", path=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 1
    rows = results(output)["rows"]
    assert [list(row["values"]) for row in rows] == [["ours"], ["ours"]]
    assert all("255" in row["failed"]["ssh"] for row in rows)


def run(directory: Path, subject: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["-m", "benchmarks.run", "--only", subject, "--rounds", "1", "--output", str(directory)]
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={**os.environ, **({"PATH": path} if path else {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def results(directory: Path) -> Any:
    return json.loads((directory / "results.json").read_text())
