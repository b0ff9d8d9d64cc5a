"""A host without runicorn and without a network, that ends with a running viewer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.user import User
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.sshd]

# Fetching 40 packages here, bringing them there and installing them.
LONG = 100.0
SOON = 20.0
NOWHERE = "http://127.0.0.1:9/simple"  # discard(9): nobody listens
WITHOUT_NETWORK = {
    "PIP_INDEX_URL": NOWHERE,
    "PIP_EXTRA_INDEX_URL": NOWHERE,
    "PIP_FIND_LINKS": "",
    "PIP_CONFIG_FILE": os.devnull,
    "UV_INDEX_URL": NOWHERE,
    "UV_OFFLINE": "1",
}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    """Its login has the Python of these tests, and nothing installed beside it."""
    directory = tmp_path / "host"
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/python3").symlink_to(base)
    environment = {**WITHOUT_NETWORK, "PATH": f"{directory}/bin:/usr/bin:/bin"}
    with SshServer(directory, environment=environment) as server:
        yield server


@pytest.fixture
def user(server: ServerProcess, sshd: SshServer) -> User:
    credentials = {
        "host": sshd.host,
        "port": sshd.port,
        "username": sshd.username,
        "private_key_path": str(sshd.client_key),
    }
    user = User(server, credentials)
    user.accept_host_key()
    user.connect()
    return user


def begin(user: User, **more: Any) -> dict[str, Any]:
    answer = user.server.post(
        "/api/remote/environments/install", {"connection_id": user.connection_id, **more}
    )
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()["install"]
    assert job["state"] == "running"
    return job


def end(user: User, job: dict[str, Any], within: float = LONG) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        seen: dict[str, Any] = user.get(f"environments/install/{job['installId']}")
        return seen if seen["state"] != "running" else None

    return until(over, within, "the installation is over")


def follow(user: User, url: str) -> tuple[list[str], dict[str, Any]]:
    """The kinds of all events, and what the last one says."""
    stream = user.server.get(f"/api/remote/{url}/events", timeout=SOON).text
    kinds = re.findall(r"^event: (\w+)$", stream, re.M)
    return kinds, json.loads(re.findall(r"^data: (.*)$", stream, re.M)[-1])


def left_of_it(sshd: SshServer) -> list[str]:
    """What an installation left in the account."""
    root = sshd.home / ".local/share/runicorn-remote"
    return sorted(path.name for name in ("", "venvs") for path in (root / name).glob("*") if path.is_dir())


@pytest.mark.viewer
@pytest.mark.timeout(240)
def test_from_nothing_to_a_running_viewer(user: User, sshd: SshServer) -> None:
    (sshd.home / "storage").mkdir()
    before = user.get("conda-envs", connection_id=user.connection_id)["envs"]
    assert "runicorn-remote" not in [item["name"] for item in before]
    refused = user.try_to_start_viewer("system")
    assert refused.json()["code"] == "RUNICORN_NOT_INSTALLED"
    assert "environments/install" in refused.json()["hint"]
    advice = user.get("config", connection_id=user.connection_id)["advice"]
    assert "not installed" in advice

    job = begin(user)
    again = user.server.post("/api/remote/environments/install", {"connection_id": user.connection_id})
    assert (again.status_code, again.json()["code"]) == (409, "INSTALL_IN_PROGRESS")
    done = end(user, job, 200)
    assert done["state"] == "done", done
    assert done["result"] == {
        "condaEnv": "runicorn-remote",
        "python": done["result"]["python"],
        "runicornVersion": "0.7.2",
        "source": "wheels",
    }
    assert any(line.startswith("Copying ") for line in done["lines"]), done["lines"]
    tail = user.get(f"environments/install/{job['installId']}", after=done["nextLine"] - 1)
    assert tail["lines"] == done["lines"][-1:]

    environments = user.get("conda-envs", connection_id=user.connection_id)["envs"]
    assert [(item["name"], item["type"]) for item in environments if item["is_default"]] == [
        ("runicorn-remote", "venv")
    ]
    configs = user.get("env-configs", connection_id=user.connection_id)["configs"]
    assert configs["runicorn-remote"]["runicornVersion"] == "0.7.2"
    assert configs["runicorn-remote"]["advice"] is None
    session = user.start_viewer("runicorn-remote")
    assert requests.get(session["url"] + "/api/health", timeout=10).json()["status"] == "ok"
    user.stop_viewer(session)

    # Nothing but the environment is left, and it is nobody else's.
    (environment,) = [name for name in left_of_it(sshd) if name not in ("locks", "venvs")]
    venv = sshd.home / ".local/share/runicorn-remote/venvs" / environment
    assert Path(done["result"]["python"]) == venv / "bin/python"
    assert [path.stat().st_mode & 0o777 for path in (venv.parent.parent, venv.parent, venv)] == [0o700] * 3


@pytest.fixture
def server_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    return dict(getattr(request, "param", {}))


@pytest.mark.parametrize("server_environment", [WITHOUT_NETWORK], indirect=True)
def test_no_network_on_either_side(user: User, sshd: SshServer) -> None:
    failed = end(user, begin(user))
    assert (failed["state"], failed["errorCode"], failed["result"]) == ("failed", "WHEELS_UNAVAILABLE", None)
    assert "neither the host (" in failed["error"]
    assert "nor this server (" in failed["error"]
    assert "PIP_INDEX_URL" in failed["hint"]
    assert left_of_it(sshd) == ["locks", "venvs"]
    body = {"connection_id": user.connection_id, "wait": True}
    waited = user.server.post("/api/remote/environments/install", body)
    assert (waited.status_code, waited.json()["code"]) == (500, "WHEELS_UNAVAILABLE")


def test_a_cancelled_one_leaves_nothing(user: User, sshd: SshServer, tmp_path: Path) -> None:
    """Cancelled while the host's installer hangs."""
    hangs = tmp_path / "host/bin/uv"
    hangs.write_text(
        '#!/bin/sh\n[ "$1" = venv ] && exec python3 -I -m venv --without-pip "$4"\n'
        "printf 'Resolving \\033[31m%s\\007 http://user:word@index/\\n' \"$*\"\nsleep 600 & sleep 600\n"
    )
    hangs.chmod(0o755)
    job = begin(user, version="v0.7.2")
    assert job["version"] == "0.7.2"
    url = f"environments/install/{job['installId']}"
    until(lambda: any("Resolving" in line for line in user.get(url)["lines"]), SOON, "it hangs")
    (line,) = [line for line in user.get(url)["lines"] if "Resolving" in line]
    assert "\x1b" not in line
    assert "word" not in line
    assert line.endswith("runicorn==0.7.2 http://***@index/")
    with ThreadPoolExecutor(1) as executor:
        followed = executor.submit(follow, user, url)
        assert user.post(f"{url}/cancel")["ok"] is True
        kinds, last = followed.result(SOON)
    over = end(user, job, SOON)
    assert set(kinds[:-1]) == {"install"}
    assert (kinds[-1], last) == ("end", {**over, "lines": []})
    assert (over["state"], over["errorCode"]) == ("cancelled", "INSTALL_CANCELLED")
    until(lambda: left_of_it(sshd) == ["locks", "venvs"], SOON, "it is taken back")
    assert user.post(f"{url}/cancel")["ok"] is True, "a second time"


def test_what_is_refused(user: User, sshd: SshServer, tmp_path: Path) -> None:
    route = "/api/remote/environments/install"
    at = {"connection_id": user.connection_id}
    for body, status, code in (
        ({**at, "version": "0.7.2; touch /tmp/x"}, 400, "INVALID_VALUE"),
        ({**at, "version": ">=0.7"}, 400, "INVALID_VALUE"),
        ({**at, "version": "--pre"}, 400, "INVALID_VALUE"),
        ({"connection_id": "me@nowhere:22"}, 404, "CONNECTION_NOT_FOUND"),
        ({}, 422, "VALIDATION_FAILED"),
    ):
        answer = user.server.post(route, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
    missing = user.server.get(f"{route}/nope")
    assert (missing.status_code, missing.json()["code"]) == (404, "INSTALL_NOT_FOUND")
    unknown = end(user, begin(user, conda_env="nope"), SOON)
    assert unknown["errorCode"] == "ENVIRONMENT_NOT_FOUND"
    # One whose Python is the system's own, of a distribution that keeps others out.
    external = make_external(tmp_path / "host/external")
    managed = end(user, begin(user, conda_env=str(external)), SOON)
    assert managed["errorCode"] == "EXTERNALLY_MANAGED"
    assert "Leave conda_env out" in managed["hint"]


def make_external(prefix: Path) -> Path:
    """An environment whose interpreter says of itself what Debian's says."""
    said = {
        "version": [3, 12],
        "prefix": str(prefix),
        "base": str(prefix),
        "pip": "24.0",
        "runicorn": None,
        "site": str(prefix),
        "managed": True,
        "target": {},
    }
    python = prefix / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho '{json.dumps(said)}'\n")
    python.chmod(0o755)
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    return prefix


def test_an_environment_of_the_users_own(user: User, sshd: SshServer) -> None:
    """It stays as it is when the installation fails."""
    venv = sshd.home / ".virtualenvs/mine"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    failed = end(user, begin(user, conda_env="mine", version="0.7.2.dev9999"))
    assert failed["errorCode"] == "WHEELS_UNAVAILABLE", failed
    assert (venv / "bin/python").exists()
    assert left_of_it(sshd) == ["locks"]
