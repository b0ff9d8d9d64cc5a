"""The routes about environments: exact shapes, over a host whose scripts run for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from runicorn_remote.errors import ConnectionNotFound
from runicorn_remote.services import Services
from tests.fakes import LocalHost
from tests.onhost.homes import install_runicorn, make_conda_root

ID = "me@localhost:22"


class OneConnection:
    """Connections with just one that is live."""

    def __init__(self, host: LocalHost) -> None:
        self.host = host

    def get(self, connection_id: str) -> LocalHost:
        if connection_id != ID:
            raise ConnectionNotFound(connection_id)
        return self.host


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "remote-home"
    root = make_conda_root(home / "miniconda3", "train")
    install_runicorn(root / "envs" / "train", "0.7.2")
    return home


@pytest.fixture(autouse=True)
def host(services: Services, home: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHost:
    host = LocalHost(home)
    monkeypatch.setattr(services, "connections", OneConnection(host))
    return host


def get(client: FlaskClient, route: str, **query: Any) -> TestResponse:
    return client.get(f"/api/remote/{route}?{urlencode({'connection_id': ID, **query})}")


def test_conda_envs(client: FlaskClient, home: Path) -> None:
    answer = get(client, "conda-envs")
    assert answer.status_code == 200
    body = answer.get_json()
    assert set(body) == {"ok", "envs"}
    assert body["ok"] is True
    assert body["envs"][0] == {
        "name": "train",
        "type": "conda",
        "python_version": "Python 3.11.7",
        "pythonVersion": "Python 3.11.7",
        "path": f"{home}/miniconda3/envs/train/bin/python",
        "is_default": True,
        "isDefault": True,
    }
    assert [item["is_default"] for item in body["envs"][1:]] == [False] * (len(body["envs"]) - 1)


def test_env_configs(client: FlaskClient) -> None:
    body = get(client, "env-configs").get_json()
    assert set(body) == {"ok", "configs"}
    assert body["configs"]["train"] == {
        "pythonVersion": "Python 3.11.7",
        "runicornVersion": "0.7.2",
        "advice": None,
    }
    base = body["configs"]["base"]
    assert (base["pythonVersion"], base["runicornVersion"]) == ("Python 3.12.1", None)
    assert "not installed" in base["advice"]


def test_config(client: FlaskClient, home: Path) -> None:
    body = get(client, "config", conda_env="train").get_json()
    port = body.pop("suggestedRemotePort")
    assert type(port) is int
    assert 1024 <= port <= 65535
    assert body == {
        "ok": True,
        "condaEnv": "train",
        "pythonVersion": "Python 3.11.7",
        "runicornVersion": "0.7.2",
        "defaultStorageRoot": f"{home}/runicorn_data",
        "storageRootExists": False,
        "connectionId": ID,
        "homeDirectory": str(home),
        "advice": None,
    }


@pytest.mark.parametrize("query", [{}, {"conda_env": ""}, {"conda_env": "system", "extra": "ignored"}])
def test_config_is_of_the_system_by_default(client: FlaskClient, query: dict[str, str]) -> None:
    assert get(client, "config", **query).get_json()["condaEnv"] == "system"


def test_storage_candidates(client: FlaskClient, home: Path) -> None:
    (home / "store" / "runs" / "x").mkdir(parents=True)
    (home / "store" / "runs" / "x" / "status.json").touch()
    assert get(client, "storage-candidates").get_json() == {
        "scan_root": str(home),
        "max_depth": 3,
        "candidates": [
            {
                "path": f"{home}/store",
                "run_count": 1,
                "has_archive": False,
                "has_index": False,
                "score": 101,
            }
        ],
        "truncated": False,
    }


@pytest.mark.parametrize(("given", "used"), [("-1", 1), ("0", 1), ("8", 8), ("99", 8), ("100000000000", 8)])
def test_max_depth_is_clamped(client: FlaskClient, given: str, used: int) -> None:
    assert get(client, "storage-candidates", max_depth=given).get_json()["max_depth"] == used


@pytest.mark.parametrize(
    ("route", "query", "status", "detail"),
    [
        ("config", {"conda_env": "x"}, 404, "Environment 'x' not found. Please check the environment name."),
        (
            "storage-candidates",
            {"conda_env": "x"},
            404,
            "Environment 'x' not found. Please check the environment name.",
        ),
        ("storage-candidates", {"scan_root": "~/none"}, 404, "Scan root does not exist: ~/none"),
        ("storage-candidates", {"scan_root": "/dev/null"}, 400, "Scan root is not a directory: /dev/null"),
    ],
)
def test_refusals(client: FlaskClient, route: str, query: dict[str, str], status: int, detail: str) -> None:
    answer = get(client, route, **query)
    assert (answer.status_code, answer.get_json()["detail"]) == (status, detail)


@pytest.mark.parametrize("route", ["conda-envs", "env-configs", "config", "storage-candidates"])
class TestConnectionId:
    def test_missing(self, client: FlaskClient, route: str) -> None:
        answer = client.get(f"/api/remote/{route}")
        assert answer.status_code == 422
        assert [fault["loc"] for fault in answer.get_json()["detail"]] == [["query", "connection_id"]]

    def test_unknown(self, client: FlaskClient, route: str) -> None:
        answer = client.get(f"/api/remote/{route}?connection_id=you@there:22")
        assert answer.status_code == 404
        assert answer.get_json()["detail"] == "Connection not found or inactive: you@there:22"


@pytest.mark.parametrize("depth", ["", "x", "1.5", "1" * 5000, "²"])
def test_max_depth_that_is_no_number(client: FlaskClient, depth: str) -> None:
    assert get(client, "storage-candidates", max_depth=depth).status_code == 422


@pytest.mark.parametrize("name", ["$(touch HIT)", "'", "a\nb", "../x", "-c", "x" * 4096, "<b>"])
def test_names_of_environments_are_only_names(client: FlaskClient, home: Path, name: str) -> None:
    assert get(client, "config", conda_env=name).status_code == 404
    assert not list(home.glob("HIT*"))


@pytest.mark.parametrize("text", ["a\0b", "x" * 5000])
def test_texts_that_no_path_can_be(client: FlaskClient, text: str) -> None:
    for route, name in (("config", "conda_env"), ("storage-candidates", "scan_root")):
        assert get(client, route, **{name: text}).status_code == 422
