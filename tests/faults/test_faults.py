"""Each fault once, with two viewers and a server that looks around more often than by default.

The long version is `make faults`; what it measured stands in docs/reliability.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import namespace, run
from tests.faults.faults import (
    FAULTS,
    KEEP,
    MOVABLE_CLOCK,
    NAMESPACE,
    RELAY,
    SMALL_DISK,
    STRAIGHT,
    Fault,
    Times,
)
from tests.faults.stage import Setting, Stage, own_home

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sshd,
    pytest.mark.viewer,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of processes"),
]

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


def on(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the test with each fault of this setting, on one stage."""
    faults = [
        pytest.param(fault, id=fault.name.replace(" ", "-"))
        for fault in FAULTS
        if fault.setting.name == setting.name
    ]

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        with_faults = pytest.mark.parametrize("fault", faults)(test)
        return pytest.mark.parametrize("stage", [setting.name], indirect=True)(with_faults)

    return mark


def strike(stage: Stage, fault: Fault) -> None:
    try:
        fault.strike(stage, 0, _TIMES)
    except BaseException:
        print(stage.server.output()[-20000:])
        raise


@on(STRAIGHT)
def test_hosts_viewers_and_servers_that_end_or_freeze(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


@on(RELAY)
def test_a_network_that_swallows_everything(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


@on(NAMESPACE)
def test_a_cable_that_is_pulled(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


@on(KEEP)
def test_a_server_that_keeps_its_viewers(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


@on(SMALL_DISK)
def test_a_disk_that_is_full(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


@on(MOVABLE_CLOCK)
def test_a_clock_that_jumps(stage: Stage, fault: Fault) -> None:
    strike(stage, fault)


def test_no_fault_is_left_out() -> None:
    tried = {setting.name for setting in (STRAIGHT, RELAY, NAMESPACE, KEEP, SMALL_DISK, MOVABLE_CLOCK)}
    assert {fault.setting.name for fault in FAULTS} == tried


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, other = run.BEGIN.format("run"), run.BEGIN.format("soak") + run.END
    page.write_text(f"before\n{begin}\nold\n{run.END}\nafter\n{other}")
    result = run.Result(FAULTS[0], 2)
    result.outcomes = [run.Outcome(1.0, 9.0), run.Outcome(3.0, 11.0), run.Outcome(2.0)]
    run.put_into(page, run.table([result, run.Result(FAULTS[1], 2, skipped="no sshd")]), "run")
    before, text = page.read_text().split(begin)
    text, after = text.split(run.END, 1)
    assert (before, after) == ("before\n", f"\nafter\n{other}")
    assert (
        "| connection killed | 2 | 3 | 3 | 2.0 s | 3.0 s | 10.0 s, worst 11.0 s | nothing |"
        in text.splitlines()
    )
    assert "not tried: no sshd" in text
