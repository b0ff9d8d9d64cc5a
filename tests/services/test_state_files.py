"""What somebody else could have put into a state directory is refused, by name, before anything is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runicorn_remote.errors import StateError
from runicorn_remote.server import prepared
from runicorn_remote.services import Services
from runicorn_remote.services.state_files import STATE_FILES, inspect_state, refuse_unsafe_state
from runicorn_remote.settings import Settings

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
NOBODY = 65534


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    for name in STATE_FILES:
        (directory / name).touch(mode=0o600)
    return directory


def test_a_state_of_our_own_is_fine(state: Path) -> None:
    assert inspect_state(state) == []
    refuse_unsafe_state(state)


def test_nothing_is_fine_too(tmp_path: Path) -> None:
    assert inspect_state(tmp_path / "none" / "state") == []


@as_root
@pytest.mark.parametrize("name", ["", *STATE_FILES])
def test_what_belongs_to_another_user_is_refused(state: Path, name: str) -> None:
    os.chown(state / name, NOBODY, NOBODY)
    with pytest.raises(StateError, match=rf"{name} belongs to another user \(uid 65534\).*chown"):
        refuse_unsafe_state(state)


@pytest.mark.parametrize("name", STATE_FILES)
def test_a_link_is_refused(state: Path, tmp_path: Path, name: str) -> None:
    (state / name).rename(tmp_path / "elsewhere")
    (state / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=f"{name} is a symbolic link"):
        refuse_unsafe_state(state)


def test_a_linked_directory_is_refused(state: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(state)
    assert [finding.refused for finding in inspect_state(tmp_path / "link")] == [True]


def test_modes_are_told_and_not_changed(state: Path) -> None:
    state.chmod(0o750)
    (state / "connections.json").chmod(0o644)
    findings = inspect_state(state)
    assert [(finding.path, finding.refused) for finding in findings] == [
        (state, False),
        (state / "connections.json", False),
    ]
    assert "chmod 600" in findings[1].message
    assert (state / "connections.json").stat().st_mode & 0o777 == 0o644
    refuse_unsafe_state(state)


def test_a_server_refuses_to_start(state: Path) -> None:
    (state / "sessions.json").unlink()
    (state / "sessions.json").symlink_to("/dev/null")
    with pytest.raises(StateError, match=r"sessions\.json is a symbolic link"):
        prepared(Settings(state_dir=str(state)))


def test_every_file_of_a_server_is_known(tmp_path: Path, services: Services) -> None:
    """A new file of ours has to be listed, else nobody looks at its owner."""
    services.start()
    services.ui_preferences.dismiss("x")
    services.saved_connections.replace(
        [{"kind": "server", "id": "s", "host": "h", "username": "me", "password": "x"}]
    )
    made = set(os.listdir(tmp_path / "state"))
    assert {"connections.json", ".secret.key", "sessions.json"} <= made <= set(STATE_FILES)
