"""Each fault once, with two viewers and a server that looks around more often than by default.

The long version is `make faults`; what it measured stands in docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import namespace, run
from tests.faults.faults import FAULTS, Fault, Times
from tests.faults.stage import Stage, own_home

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.viewer]

VIEWERS = 2
_IMPATIENT = {"HEARTBEAT_INTERVAL": "1", "HEALTH_TIMEOUT": "1", "PROBE_TIMEOUT": "1", "BANNER_TIMEOUT": "3"}
# Only until it is noticed.
_TIMES = Times(freeze=0.0, cut=0.0, restart=0.5)


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all faults of a setting. At the end everything is stopped, and nothing may be left."""
    setting = {fault.setting.name: fault.setting for fault in FAULTS}[request.param]
    if setting.network == "namespace" and (reason := namespace.why_not()):
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp(setting.name)
    with own_home(directory), Stage(directory, setting, viewers=VIEWERS, settings=_IMPATIENT) as stage:
        yield stage
        stage.end_all()
        assert stage.left_behind() == []


@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        pytest.param(fault.setting.name, fault, id=fault.name.replace(" ", "-"))
        for fault in sorted(FAULTS, key=lambda fault: fault.setting.name)
    ],
    indirect=["stage"],
)
def test_all_viewers_come_back(stage: Stage, fault: Fault) -> None:
    try:
        fault.strike(stage, 0, _TIMES)
    except BaseException:
        print(stage.server.output()[-20000:])
        raise


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{run.BEGIN}\nold\n{run.END}\nafter\n")
    result = run.Result(FAULTS[0], 2)
    result.outcomes = [run.Outcome(1.0, 9.0), run.Outcome(3.0, 11.0), run.Outcome(2.0)]
    run.put_into(page, run.table([result, run.Result(FAULTS[1], 2, skipped="no sshd")]))
    before, text = page.read_text().split(run.BEGIN)
    text, after = text.split(run.END)
    assert (before, after) == ("before\n", "\nafter\n")
    assert (
        "| connection killed | 2 | 3 | 3 | 2.0 s | 3.0 s | 10.0 s, worst 11.0 s | nothing |"
        in text.splitlines()
    )
    assert "not tried: no sshd" in text
