"""Runicorn's own client, as it comes with runicorn 0.7.2, against our server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from runicorn.client import RunicornClient
from runicorn.client.exceptions import BadRequestError, HostKeyConfirmationRequiredError, NotFoundError

from runicorn_remote.client import RunicornRemoteClient
from tests.client.conftest import ENVIRONMENT
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer

Account = dict[str, Any]


@pytest.fixture
def remote(server: ServerProcess, client: RunicornRemoteClient) -> Iterator[Any]:
    """`client` is there for what it takes back afterwards."""
    with RunicornClient(base_url=server.url, timeout=60) as runicorn:
        yield runicorn.remote


@pytest.fixture
def trusted(remote: Any, trusting: RunicornRemoteClient) -> Any:
    return remote


def test_journey(remote: Any, host: SshServer, account: Account, credentials: Account) -> None:
    with pytest.raises(HostKeyConfirmationRequiredError) as caught:
        remote.connect(**credentials)
    shown = caught.value.host_key
    assert shown["reason"] == "unknown"
    names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
    assert remote.confirm_host_key(**{name: shown[name] for name in names})["ok"] is True

    connection_id = remote.connect(**credentials)["connection_id"]
    assert [item["key"] for item in remote.list_sessions()] == [connection_id]
    started = remote.start_viewer(**credentials, remote_root="~/storage", conda_env=ENVIRONMENT)
    session = started["session"]
    assert requests.get(session["url"] + "/api/health", timeout=10).json()["status"] == "ok"
    assert [item["sessionId"] for item in remote.list_viewer_sessions()] == [session["sessionId"]]
    assert remote.get_remote_status()["viewer_session_count"] == 1
    assert remote.stop_viewer(session["sessionId"])["ok"] is True
    assert remote.list_viewer_sessions() == []
    with pytest.raises(NotFoundError):
        remote.stop_viewer(session["sessionId"])
    assert remote.disconnect(**account)["ok"] is True
    assert remote.list_sessions() == []


def test_a_start_with_the_connection_id_alone(trusted: Any, credentials: Account) -> None:
    connection_id = trusted.connect(**credentials)["connection_id"]
    started = trusted.start_viewer(connection_id=connection_id, remote_root="~/storage", conda_env="serves")
    assert started["session"]["status"] == "running"
    assert started["session"]["sshPort"] == credentials["port"]


def test_storage_candidates(trusted: Any, host: SshServer, credentials: Account) -> None:
    connection_id = trusted.connect(**credentials)["connection_id"]
    storage = host.home / "found"
    (storage / "archive").mkdir(parents=True)
    found = trusted.list_remote_storage_candidates(connection_id, scan_root=str(storage), max_depth=2)
    assert [item["path"] for item in found] == [str(storage)]
    assert found[0]["has_archive"] is True


def test_errors(trusted: Any, account: Account) -> None:
    with pytest.raises(BadRequestError, match="KEY_UNUSABLE"):
        trusted.connect(**account, private_key_path="/no/such/key")
    with pytest.raises(NotFoundError):
        trusted.list_remote_storage_candidates("nobody@nowhere:22")
