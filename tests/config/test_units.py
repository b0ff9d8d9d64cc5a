"""The files in config/ that are not settings: systemd takes the units, as hardened as the page says."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from runicorn_remote.cli.serve import serve
from runicorn_remote.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = REPOSITORY / "config"
UNITS = sorted((CONFIG / "systemd").iterdir())
PAGE = (REPOSITORY / "docs/operations.md").read_text("utf-8")
# The settings that the file of a jump box has in comments.
OFFERED = re.findall(r"^# ([a-z_]+ = .*)", (CONFIG / "jump-box.toml").read_text("utf-8"), re.M)

each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


def analyze(*arguments: str | Path, directory: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is not installed (Debian: systemd)")
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    return subprocess.run(
        [program, *arguments],
        env={**os.environ, "XDG_RUNTIME_DIR": str(directory), "SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_settings_of_a_jump_box() -> None:
    settings = Settings.load(CONFIG / "jump-box.toml", {})
    assert (settings.check_user, settings.store_secrets, settings.on_shutdown) == (True, False, "keep")
    assert len(OFFERED) >= 6


@pytest.mark.parametrize(
    "line", re.findall(r"^# ([a-z_]+ = .*)", (CONFIG / "jump-box.toml").read_text(), re.M)
)
def test_what_it_offers_in_comments_can_be_used(tmp_path: Path, line: str) -> None:
    (tmp_path / "settings.toml").write_text(line)
    Settings.load(tmp_path / "settings.toml", {})


@each_unit
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """With a program that is there in place of ours; any other complaint fails."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M))
    answer = analyze("verify", copy, directory=tmp_path)
    complaints = [line for line in answer.stderr.splitlines() if unit.stem.rstrip("@") in line]
    assert (answer.returncode, complaints) == (0, []), answer.stderr


@each_unit
def test_its_exposure_is_what_the_page_says(unit: Path, tmp_path: Path) -> None:
    found = re.search(rf"`{re.escape(unit.name)}`.*\| (\d+\.\d) \|", PAGE)
    assert found, "the page has no line of it"
    answer = analyze("security", "--offline=true", unit, directory=tmp_path)
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d)", answer.stdout)
    assert level, answer.stderr
    # Versions of systemd weigh a little differently.
    assert abs(float(level[1]) - float(found[1])) <= 0.5


@each_unit
def test_it_starts_what_there_is(unit: Path) -> None:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text())
    program, verb, *arguments = parser["Service"]["ExecStart"].split()
    assert (program.rpartition("/")[2], verb) == ("runicorn-remote", "serve")
    context = serve.make_context("serve", arguments, parent=click.Context(serve))
    socket = context.params["unix_socket"]
    assert socket.startswith(f"%t/{parser['Service']['RuntimeDirectory']}/")
    assert (parser["Service"]["RuntimeDirectoryMode"], parser["Service"]["Type"]) == ("0700", "notify")
    assert parser["Service"]["RestartPreventExitStatus"] == "2"
