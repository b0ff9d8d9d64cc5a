"""`rotate-key` as people run it: with a server beside it, and where nothing can be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.hosts.server import ServerProcess

SAVED = "/api/remote/connections/saved"
SERVER = {"kind": "server", "id": "s", "name": "gpu", "host": "gpu", "port": 22, "username": "me"}


def test_a_running_server_goes_on_with_the_new_key(server: ServerProcess, run: Run) -> None:
    server.post(SAVED, [{**SERVER, "password": "hunter2"}])
    key_file = server.state_dir / ".secret.key"
    before = key_file.read_bytes()
    result = run("rotate-key", "--state-dir", str(server.state_dir), "--json")
    assert (result.status, result.document) == (
        0,
        {"ok": True, "secrets": 1, "unreadable": 0, "removed": []},
    )
    assert key_file.read_bytes() != before
    [entry] = server.get(SAVED).json()["connections"]
    assert entry["hasSavedPassword"] is True
    server.post(SAVED, [])


def test_its_place_is_a_setting(tmp_path: Path, run: Run) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'state_dir = {json.dumps(str(tmp_path))}\nsecret_key = "credential"\n')
    result = run("rotate-key", "--config", str(config))
    assert result.status == 2
    assert "there is no credential runicorn-remote-key" in result.err


@pytest.mark.parametrize("as_json", [True, False])
def test_a_list_that_cannot_be_read(tmp_path: Path, run: Run, as_json: bool) -> None:
    (tmp_path / "connections.json").write_text("{")
    result = run("rotate-key", "--state-dir", str(tmp_path), *(["--json"] if as_json else []))
    assert result.status == 1
    assert "Neither it nor the key was changed" in (result.out if as_json else result.err)
    assert not (tmp_path / ".secret.key").exists()
