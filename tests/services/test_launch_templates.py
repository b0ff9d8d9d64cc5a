from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runicorn_remote.errors import LaunchArgumentsUnusable
from runicorn_remote.services import Services
from runicorn_remote.services.launch_commands import LaunchCommands
from runicorn_remote.services.launch_templates import LaunchTemplate, LaunchTemplates
from runicorn_remote.settings import Settings, SettingsError
from runicorn_remote.ssh.connect import make_router
from runicorn_remote.ssh.target import Target

SRUN = "login*.cluster: srun --jobid {job} --overlap {command}"


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("login1.cluster", True),
        ("LOGIN1.Cluster.", True),
        ("login.cluster", True),
        ("login1.cluster.example.org", False),
        ("alogin1.cluster", False),
        ("", False),
    ],
)
def test_hosts_by_pattern(host: str, fits: bool) -> None:
    found = LaunchTemplates([SRUN]).command([host], {"job": "1"} if fits else None)
    assert found == (["srun", "--jobid", "1", "--overlap", "{command}"] if fits else None)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert LaunchTemplates(["[fd00::1]: run {command}"]).command(["fd00::1"], None) == ["run", "{command}"]


def test_the_first_that_fits_any_name_is_taken() -> None:
    templates = LaunchTemplates(["hpc: first {command}", "*: second {command}"])
    assert templates.command(["hpc", "login1"], None) == ["first", "{command}"]
    assert templates.command(["alias", "hpc"], None) == ["first", "{command}"]
    assert templates.command(["other"], None) == ["second", "{command}"]


@pytest.mark.parametrize("pattern", ["hpc", "login1.cluster"])
def test_an_alias_and_what_it_stands_for_are_both_the_host(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "config").write_text("Host hpc\n    HostName login1.cluster\n")
    router = make_router(Settings(ssh_config=str(tmp_path / "config")))
    commands = LaunchCommands(LaunchTemplates([f"{pattern}: run {{command}}"]), router)
    assert commands.command(Target("hpc", 22, "me"), None) == ["run", "{command}"]
    assert commands.command(Target("login2.cluster", 22, "me"), None) is None
    with pytest.raises(LaunchArgumentsUnusable):
        commands.check(Target("hpc", 22, "me"), {"job": "1"})


def test_words_are_split_once_and_values_are_never_words() -> None:
    template = LaunchTemplate.parse("h: /opt/my\\ slurm/srun '--comment=a b' --x={a},{b}:{a} {command}")
    assert template.names == ["a", "b"]
    filled = template.filled({"a": "1", "b": "2"})
    assert filled == ["/opt/my slurm/srun", "--comment=a b", "--x=1,2:1", "{command}"]


@given(st.text(max_size=140))
def test_a_value_is_one_harmless_word_or_refused(value: str) -> None:
    template = LaunchTemplate.parse("h: srun --jobid {job} {command}")
    if re.fullmatch(r"[A-Za-z0-9_.,:=/+][A-Za-z0-9_.,:=/+-]{0,127}", value):
        assert template.filled({"job": value}) == ["srun", "--jobid", value, "{command}"]
        return
    with pytest.raises(LaunchArgumentsUnusable):
        template.filled({"job": value})


@pytest.mark.parametrize("value", ["", "-1", "1 2", "1\n", "$(id)", "x" * 129, "é", "{command}", "~", "a;b"])
def test_values_that_are_refused(value: str) -> None:
    with pytest.raises(LaunchArgumentsUnusable, match="'job'") as refused:
        LaunchTemplates([SRUN]).command(["login.cluster"], {"job": value})
    assert refused.value.code == "LAUNCH_ARGUMENT_INVALID"


def test_what_does_not_fit_is_named() -> None:
    templates = LaunchTemplates([SRUN])
    for hosts, values, code in (
        (["login.cluster"], None, "LAUNCH_ARGUMENT_MISSING"),
        (["login.cluster"], {"jobid": "1"}, "LAUNCH_ARGUMENT_MISSING"),
        (["login.cluster"], {"job": "1", "command": "id"}, "LAUNCH_ARGUMENT_UNKNOWN"),
        (["elsewhere"], {"job": "1"}, "LAUNCH_NOT_CONFIGURED"),
    ):
        with pytest.raises(LaunchArgumentsUnusable) as refused:
            templates.command(hosts, values)
        assert refused.value.code == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "srun {command}",
        ": srun {command}",
        "h:",
        "h: srun",
        "h: {command}{command}",
        "h: srun {command} {command}",
        "h: srun x{command}",
        "h: srun {command} --again={command}",
        "h: {program} {command}",
        "h: {command} srun",
        "h: srun 'unclosed {command}",
        "h: srun {Job} {command}",
        "h: srun {} {command}",
        "h: srun }{ {command}",
        "two hosts: srun {command}",
        "me@h: srun {command}",
    ],
)
def test_templates_that_are_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        LaunchTemplate.parse(text)
    with pytest.raises(SettingsError, match=r"launch: "):
        Services(Settings(launch=(text,)))
