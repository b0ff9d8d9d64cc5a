"""The token: where it comes from, and when there has to be one."""

from __future__ import annotations

from pathlib import Path

import pytest

from runicorn_remote.services.token import load_token
from runicorn_remote.settings import Settings, SettingsError

TOKEN = "0123456789abcdef" * 2


def test_none_is_needed_on_loopback_or_a_unix_socket() -> None:
    for settings in (Settings(), Settings(host="::1"), Settings(host="0.0.0.0", unix_socket="/x/s")):
        assert load_token(settings, {}) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jump-box"])
def test_other_addresses_need_one(host: str) -> None:
    with pytest.raises(SettingsError, match="set token_file"):
        load_token(Settings(host=host), {})
    assert load_token(Settings(host=host), {"RUNICORN_REMOTE_TOKEN": TOKEN}) == TOKEN


def test_it_is_read_from_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert load_token(Settings(token_file=str(file)), {}) == TOKEN


@pytest.mark.parametrize("text", ["", "short", "a b" * 20, "x" * 2000])
def test_a_weak_or_odd_one_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SettingsError) as caught:
        load_token(Settings(token_file=str(file)), {})
    assert not text or text not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_token(Settings(token_file=str(tmp_path / "none")), {})
