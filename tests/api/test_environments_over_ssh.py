"""The Pythons of an account on a real sshd, asked over the wire."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from tests.api.user import User, faults, outcome

pytestmark = pytest.mark.sshd


def test_conda_envs(connected: User) -> None:
    answer = connected.ask("conda-envs")
    assert answer.status_code == 200
    body = answer.get_json()
    assert set(body) == {"ok", "envs"}
    assert body["ok"] is True
    environments = {each["name"]: each for each in body["envs"]}
    assert {"r72", "serves", "sleeps"} <= set(environments)
    for each in body["envs"]:
        assert {name: type(value) for name, value in each.items()} == {
            "name": str,
            "type": str,
            "python_version": str,
            "path": str,
            "is_default": bool,
            "pythonVersion": str,
            "isDefault": bool,
        }
        assert each["type"] in ("conda", "system", "venv", "virtualenv", "pyenv", "uv", "poetry", "pixi")
        assert (each["pythonVersion"], each["isDefault"]) == (each["python_version"], each["is_default"])
        assert Path(each["path"]).is_absolute()
    assert [each["is_default"] for each in body["envs"]] == [True] + [False] * (len(body["envs"]) - 1)
    assert environments["r72"]["path"] == f"{connected.server.home}/.virtualenvs/r72/bin/python"
    assert environments["r72"]["python_version"] == f"Python {platform.python_version()}"
    assert environments["r72"]["type"] in ("venv", "virtualenv")


def test_env_configs(connected: User) -> None:
    answer = connected.ask("env-configs")
    assert answer.status_code == 200
    body = answer.get_json()
    assert set(body) == {"ok", "configs"}
    assert all(
        set(each) == {"pythonVersion", "runicornVersion", "advice"} for each in body["configs"].values()
    )
    assert body["configs"]["r72"] == {
        "pythonVersion": f"Python {platform.python_version()}",
        "runicornVersion": "0.7.2",
        "advice": None,
    }
    assert set(body["configs"]) == {each["name"] for each in connected.ask("conda-envs").get_json()["envs"]}


def test_config(connected: User) -> None:
    answer = connected.ask("config", conda_env="r72")
    assert answer.status_code == 200
    body = answer.get_json()
    port = body.pop("suggestedRemotePort")
    assert type(port) is int
    assert 1024 <= port <= 65535
    home = str(connected.server.home)
    assert body == {
        "ok": True,
        "condaEnv": "r72",
        "pythonVersion": f"Python {platform.python_version()}",
        "runicornVersion": "0.7.2",
        "defaultStorageRoot": f"{home}/runicorn_data",
        "storageRootExists": False,
        "connectionId": connected.connection_id,
        "homeDirectory": home,
        "advice": None,
    }


def test_config_by_the_path_of_an_interpreter(connected: User) -> None:
    answer = connected.ask("config", conda_env=sys.executable)
    assert answer.status_code == 200, answer.get_json()
    assert answer.get_json()["runicornVersion"] == "0.7.2"


@pytest.mark.parametrize("route", ["config", "storage-candidates"])
def test_an_environment_that_is_not_there(connected: User, route: str) -> None:
    answer = connected.ask(route, conda_env="nope")
    assert outcome(answer) == (404, "ENVIRONMENT_NOT_FOUND")
    assert answer.get_json()["detail"] == ("Environment 'nope' not found. Please check the environment name.")


def test_storage_candidates(connected: User, tmp_path: Path) -> None:
    run = tmp_path / "storage" / "runs" / "project" / "20250101_000000_abcdef"
    run.mkdir(parents=True)
    (run / "meta.json").write_text("{}")
    answer = connected.ask("storage-candidates", scan_root=str(tmp_path), max_depth=99)
    assert answer.status_code == 200
    body = answer.get_json()
    assert {"scan_root", "max_depth", "candidates"} <= set(body)
    assert (body["scan_root"], body["max_depth"]) == (str(tmp_path), 8)
    (best,) = body["candidates"]
    assert {name: type(value) for name, value in best.items()} == {
        "path": str,
        "run_count": int,
        "has_archive": bool,
        "has_index": bool,
        "score": int,
    }
    assert (best["path"], best["run_count"]) == (str(tmp_path / "storage"), 1)
    assert connected.ask("storage-candidates").get_json()["max_depth"] == 3
    assert faults(connected.ask("storage-candidates", max_depth="deep")) == {"max_depth"}


@pytest.mark.parametrize(
    ("scan_root", "status", "code"),
    [("/no/such", 404, "PATH_NOT_FOUND"), ("/etc/passwd", 400, "NOT_A_DIRECTORY")],
)
def test_a_place_that_cannot_be_searched(connected: User, scan_root: str, status: int, code: str) -> None:
    assert outcome(connected.ask("storage-candidates", scan_root=scan_root)) == (status, code)


@pytest.mark.parametrize("route", ["conda-envs", "env-configs", "config", "storage-candidates"])
def test_a_connection_is_needed(connected: User, route: str) -> None:
    assert faults(connected.get(route)) == {"connection_id"}
    assert outcome(connected.get(route, connection_id="me@nowhere:22")) == (404, "CONNECTION_NOT_FOUND")
    connected.disconnect()
    answer = connected.ask(route)
    assert outcome(answer) == (404, "CONNECTION_NOT_FOUND")
    assert answer.get_json()["detail"] == f"Connection not found or inactive: {connected.connection_id}"


def test_a_link_that_is_lost(connected: User) -> None:
    connected.server.kill_connections()
    answer = connected.ask("conda-envs")
    # Which of the two depends on who notices first.
    assert outcome(answer) in ((404, "CONNECTION_NOT_FOUND"), (503, "LINK_LOST"))
