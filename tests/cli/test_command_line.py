"""The command line by itself: arguments, texts, what is imported. No server is asked."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runicorn_remote._version import __version__
from runicorn_remote.cli import command_line, main
from runicorn_remote.cli.failures import EXIT_STATUSES
from runicorn_remote.cli.host_key import algorithm
from runicorn_remote.cli.output import Table, print_plainly, printable, shown_size
from runicorn_remote.cli.status import shown_duration
from runicorn_remote.cli.target import Target, shown_address
from runicorn_remote.settings import Settings, SettingsError
from tests.hosts.server import REPOSITORY

VERBS = ("connect", "disconnect", "envs", "install", "start", "stop", "ls", "logs", "browse")
LOCAL_VERBS = ("rotate-key", "doctor")
SUBVERBS = ("hosts list", "hosts accept", "hosts remove", "saved list", "saved add", "saved remove")


@pytest.mark.parametrize(
    ("text", "host", "username", "port"),
    [
        ("gpu1", "gpu1", None, None),
        ("me@gpu1", "gpu1", "me", None),
        ("me@gpu1:2222", "gpu1", "me", 2222),
        ("me@example.org@gpu1:22", "gpu1", "me@example.org", 22),
        ("me@[::1]:22", "::1", "me", 22),
        ("[fe80::1%eth0]", "fe80::1%eth0", None, None),
        ("me@::1", "::1", "me", None),
        ("[gpu1]:2222", "gpu1", None, 2222),
    ],
)
def test_targets(text: str, host: str, username: str | None, port: int | None) -> None:
    target = Target.parse(text)
    assert target == Target(host, username, port)
    assert Target.parse(target.connection_id) == Target(host, username or getpass.getuser(), port or 22)
    assert Target.parse(shown_address(host, port or 22)).host == host


def test_whose_account_ssh_config_says(private_home: Path) -> None:
    config = private_home / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text("Host gpu1\nUser trainer\n")
    assert Target.parse("gpu1").connection_id == "trainer@gpu1:22"
    assert Target.parse("me@gpu1").connection_id == "me@gpu1:22"
    assert Target.parse("gpu2").user == getpass.getuser()
    assert Target.parse("gpu;1").user == getpass.getuser()
    config.write_text("Nonsense yes\nUser trainer\n")
    assert Target.parse("gpu1").user == getpass.getuser()


@pytest.mark.parametrize(
    "text",
    ["", "@gpu1", "me@", "me@:22", "gpu1:", "gpu1:x", "gpu1:0", "gpu1:65536", "gpu1:٢٢", "[::1", "[::1]22"],
)
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"empty|not a port|IPv6"):
        Target.parse(text)
    result = CliRunner().invoke(command_line, ["connect", text])
    assert result.exit_code == 2


@pytest.mark.parametrize("verb", [*VERBS, *SUBVERBS, *LOCAL_VERBS, "serve", "demo", "hosts", "saved"])
def test_help(verb: str) -> None:
    for flag in ("--help", "-h"):
        result = CliRunner().invoke(command_line, [*verb.split(), flag])
        assert result.exit_code == 0
        assert f"runicorn-remote {verb}" in result.output.replace("command-line", "runicorn-remote")
        assert ("--json" in result.output) is (verb not in ("serve", "demo"))


def test_help_tells_the_exit_statuses() -> None:
    result = CliRunner().invoke(command_line, ["--help"])
    told = [line.strip() for line in result.output.splitlines()]
    assert all(line.strip() in told for line in EXIT_STATUSES.splitlines())


def test_help_is_fast() -> None:
    """It imports nothing that takes long; a time would measure the machine."""
    script = """
import sys
from runicorn_remote.cli import main
assert main(["start", "--help"]) == 0
slow = {"rich", "requests", "flask", "fabric", "paramiko", "cryptography", "runicorn_remote.settings"}
print(slow & set(sys.modules), file=sys.stderr)
"""
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (answer.returncode, answer.stderr) == (0, "set()\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"runicorn-remote {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["none"], ["serve", "--port", "x"], ["start", "me@h", "--remote-port", "0"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: runicorn-remote" in err


def test_settings_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--log-level", "LOUD"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "runicorn-remote: log_level: 'LOUD' is not one of DEBUG, INFO, WARNING, ERROR"
    ]
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 2


def test_the_variables_of_the_client_verbs_are_no_settings() -> None:
    environment = {"RUNICORN_REMOTE_URL": "http://gpu1:1", "RUNICORN_REMOTE_TOKEN": "t"}
    assert Settings.load(environ=environment) == Settings()
    with pytest.raises(SettingsError):
        Settings.load(environ={"RUNICORN_REMOTE_URLS": "x"})


def test_what_others_chose_cannot_steer_a_terminal() -> None:
    hostile = "a\x1b[2J\x9b\r\n\t\u202eb\udc80ü✓"
    assert printable(hostile) == r"a\x1b[2J\x9b\r\n\t\u202eb\udc80ü✓"
    assert printable("a\n\tb\x07", lines=True) == "a\n\tb\\x07"


def test_plain_tables(capsys: pytest.CaptureFixture[str]) -> None:
    print_plainly(Table(("NAME", "SIZE"), [("long name", "1"), ("x", "")], "empty"))
    assert capsys.readouterr().out == "NAME       SIZE\nlong name  1\nx\n"


def test_numbers_for_people() -> None:
    assert [shown_size(size) for size in (0, 999, 1536, 20 * 1024**2, 5 * 1024**5)] == [
        "0",
        "999",
        "1.5K",
        "20M",
        "5120T",
    ]
    assert [shown_duration(seconds) for seconds in (0.5, 59.9, 60, 3600 + 7 * 60, 2 * 86400 + 4 * 3600)] == [
        "0s",
        "59s",
        "1m",
        "1h07m",
        "2d4h",
    ]
    assert algorithm("ssh-ed25519") == "ED25519"
    assert algorithm("ssh-new") == "ssh-new"


def test_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_RUNICORN_REMOTE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "runicorn-remote st")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == ["plain,start", "plain,stop"]


def test_every_client_verb_is_listed() -> None:
    found = set(command_line.commands) - {"serve", "demo", *LOCAL_VERBS}
    groups = {name for name in found if isinstance(command_line.commands[name], click.Group)}
    assert found - groups == set(VERBS)
    assert groups == {"hosts", "saved"}
