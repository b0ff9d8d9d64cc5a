"""Settings: layers, types and the documented file."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from runicorn_remote.settings import Settings, SettingsError

DOCUMENTED = Path(__file__).parent.parent / "config" / "runicorn-remote.toml"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_layers_win_in_order(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", 'port = 1\nthreads = 40\nhost = "::1"\nconnect_timeout = 3\n')
    settings = Settings.load(
        file, {"RUNICORN_REMOTE_PORT": "2", "RUNICORN_REMOTE_THREADS": "41"}, {"port": 3, "host": None}
    )
    assert (settings.port, settings.threads, settings.host) == (3, 41, "::1")
    assert settings.connect_timeout == 3.0


def test_the_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", "port = 77")
    assert Settings.load(environ={"RUNICORN_REMOTE_CONFIG": str(file)}).port == 77


@pytest.mark.parametrize("threads", [2, 3, 4, 8, 12, 16, 32, 256])
def test_the_limits_follow_the_threads(threads: int) -> None:
    settings = Settings.load(environ={}, flags={"threads": threads})
    slow, streams = settings.slow_requests, settings.max_event_streams
    assert slow >= 1
    assert streams >= (1 if threads > 2 else 0)
    assert slow + streams < threads, "one is left for status"
    assert slow + streams >= threads // 2, "most are used"


def test_a_limit_that_is_given_is_kept_and_the_other_makes_room() -> None:
    def limits(**given: int) -> tuple[int, int]:
        settings = Settings(**given)
        return settings.slow_requests, settings.max_event_streams

    assert limits() == (12, 16)
    assert limits(threads=12, slow_requests=8) == (8, 3)
    assert limits(threads=12, max_event_streams=9) == (2, 9)
    assert limits(max_event_streams=0) == (12, 0)
    with pytest.raises(SettingsError, match="slow_requests: 0 is not between"):
        limits(slow_requests=0)
    with pytest.raises(SettingsError, match="max_event_streams: together"):
        limits(threads=8, max_event_streams=7)


@pytest.mark.parametrize("file", sorted(DOCUMENTED.parent.glob("*.toml")), ids=lambda file: file.name)
def test_every_file_we_give_is_usable(file: Path) -> None:
    Settings.load(file, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1", "no such setting"),
        ('port = "x"', "is not a whole number"),
        ("port = true", "is not a whole number"),
        ("port = 70000", "is not between"),
        ("host = 1", "is not text"),
        ("threads = 4\nslow_requests = 4", "below threads"),
        ("threads = 16\nslow_requests = 12\nmax_event_streams = 4", "max_event_streams: together"),
        ('log_level = "LOUD"', "not one of"),
        ("port = ", "not TOML"),
    ],
)
def test_an_unusable_file_is_an_error_that_names_the_setting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.load(write(tmp_path / "c.toml", text), {})


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.load(tmp_path / "none.toml", {})


def test_unknown_and_ill_typed_variables_are_errors() -> None:
    with pytest.raises(SettingsError, match="RUNICORN_REMOTE_PROT: no such setting"):
        Settings.load(environ={"RUNICORN_REMOTE_PROT": "1"})
    with pytest.raises(SettingsError, match="RUNICORN_REMOTE_PORT: 'x' is not a number"):
        Settings.load(environ={"RUNICORN_REMOTE_PORT": "x"})


def test_the_documented_file_has_every_setting_with_its_default() -> None:
    assert Settings.load(DOCUMENTED, {}) == Settings()
    named = set(re.findall(r"^(?:# )?([a-z_]+) = ", DOCUMENTED.read_text(), re.M))
    assert named == {field.name for field in dataclasses.fields(Settings)}


def test_the_state_directory_is_runicorns_own(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert Settings().resolved_state_dir() == private_home / ".config" / "runicorn"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert Settings().resolved_state_dir() == Path("/x/runicorn")
    monkeypatch.setattr("sys.platform", "darwin")
    assert Settings().resolved_state_dir() == private_home / "Library/Application Support/Runicorn"
    assert Settings(state_dir="~/s").resolved_state_dir() == private_home / "s"
