"""How busy a host on a real sshd is, asked over the wire; and hosts that lie."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from runicorn_remote.services import Services
from runicorn_remote.services.resources import Resources, read_resources
from tests.api.conftest import trust
from tests.api.user import User, outcome
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

GIB = 1024**3
SOON = 10.0


@pytest.fixture(scope="module")
def gpu_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """One with a GPU, whose log tells of each session."""
    directory = tmp_path_factory.mktemp("gpu-host")
    tool = directory / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho '0, NVIDIA H100, 81920, 1024, 97'\n")
    tool.chmod(0o755)
    environment = {"PATH": f"{tool.parent}:/usr/bin:/bin"}
    with SshServer(directory, options={"LogLevel": "VERBOSE"}, environment=environment) as server:
        yield server


@pytest.fixture
def user(gpu_host: SshServer, client: FlaskClient, services: Services) -> User:
    user = User(client, gpu_host)
    trust(services.known_hosts.file.path, gpu_host)
    assert user.connect().status_code == 200
    return user


def route(connection_id: str) -> str:
    return f"hosts/{quote(connection_id, safe='')}/resources"


def sessions(user: User) -> int:
    return user.server.log().count("Starting session")


@pytest.mark.sshd
def test_everything_in_one_round_trip(user: User) -> None:
    # A login is followed by two: the one that makes sshd quick, and the look for forgotten viewers.
    until(lambda: sessions(user) == 2, SOON, "the login is over")
    answer = user.get(route(user.connection_id), storage_root="~/data")
    assert sessions(user) == 3
    assert answer.status_code == 200, answer.get_json()
    body = answer.get_json()
    assert (body["ok"], body["connectionId"], body["platform"]) == (True, user.connection_id, sys.platform)
    assert len(body["loadAverage"]) == 3
    assert body["cpus"] > 0
    assert body["uptimeSeconds"] > 0
    assert 0 < body["memory"]["availableBytes"] < body["memory"]["totalBytes"]
    assert body["disk"]["path"] == f"{user.server.home}/data"
    assert 0 < body["disk"]["freeBytes"] <= body["disk"]["totalBytes"]
    assert body["diskError"] is None
    assert body["gpus"] == [
        {
            "index": 0,
            "name": "NVIDIA H100",
            "memoryTotalBytes": 80 * GIB,
            "memoryUsedBytes": GIB,
            "utilizationPercent": 97,
        }
    ]
    assert body["gpuError"] is None
    assert set(body) - {"hostname"} == {
        "ok",
        "connectionId",
        "platform",
        "loadAverage",
        "cpus",
        "uptimeSeconds",
        "memory",
        "disk",
        "diskError",
        "gpus",
        "gpuError",
    }


@pytest.mark.sshd
def test_the_storage_of_new_runs_unless_told(user: User) -> None:
    body = user.get(f"hosts/{user.connection_id}/resources").get_json()
    assert body["disk"]["path"] == f"{user.server.home}/runicorn_data"


@pytest.mark.sshd
def test_a_connection_is_needed(user: User) -> None:
    assert outcome(user.get(route("me@nowhere:22"))) == (404, "CONNECTION_NOT_FOUND")
    assert outcome(user.get(route("nowhere"))) == (400, "INVALID_CONNECTION_ID")
    # Users of some directories have a slash in their name.
    assert outcome(user.get(route("lab/me@[::1]:22"))) == (404, "CONNECTION_NOT_FOUND")


def test_a_host_that_lies_has_no_say() -> None:
    nothing = Resources(None, None, None, None, None, None, None, None, None, None)
    assert read_resources({}) == nothing
    lies = {
        "hostname": 1,
        "platform": [],
        "cpus": True,
        "load": [1, 2, "3"],
        "uptime": float("nan"),
        "memory": {"total": -1, "available": 2},
        "disk": {"total": 1 << 80, "free": 1},
        "gpus": "all",
    }
    assert read_resources(lies) == nothing
    many = read_resources({"gpus": [{"index": 0, "name": "\x1b[31mred" + "x" * 999}, 7] * 500})
    assert many.gpus is not None
    assert len(many.gpus) == 32
    assert many.gpus[0].name.startswith(" [31mred")
    assert len(many.gpus[0].name) == 300
    assert read_resources({"load": [0, 0.5, 2]}).load == (0.0, 0.5, 2.0)
