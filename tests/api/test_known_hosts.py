"""POST accept, GET list, POST remove: shapes, statuses and hostile input."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from runicorn_remote.errors import HostKeyProblem
from runicorn_remote.services import Services

TYPE = "ssh-ed25519"
BASE64 = "AAAAC3NzaC1lZDI1NTE5AAAAIH0f/b3pvlK4ZYF0QaVeBEx1tvcxGGrlFoCAYwJdpKiy"
FINGERPRINT = "SHA256:ASrsX4O5NZhdepBPHyUnhHSI+VfYED+WkNJLWDYpdoI"
KEY = {
    "host": "gpu1",
    "port": 2222,
    "key_type": TYPE,
    "public_key": f"{TYPE} {BASE64}",
    "fingerprint_sha256": FINGERPRINT,
}
ENTRY = {
    "host": "gpu1",
    "port": 2222,
    "known_hosts_host": "[gpu1]:2222",
    "key_type": TYPE,
    "key_base64": BASE64,
    "fingerprint_sha256": FINGERPRINT,
}


@pytest.fixture(autouse=True)
def shown(services: Services) -> None:
    """A handshake with each of these has shown the key."""
    for host, port in (("gpu1", 2222), ("gpu1", 22)):
        services.known_hosts.seen.remember(
            HostKeyProblem(host, port, "", TYPE, FINGERPRINT, f"{TYPE} {BASE64}", "unknown")
        )


def accept(client: FlaskClient, **changes: Any) -> Any:
    return client.post("/api/remote/known-hosts/accept", json={**KEY, **changes})


def remove(client: FlaskClient, **changes: Any) -> Any:
    entry = {name: ENTRY[name] for name in ("host", "port", "key_type")}
    return client.post("/api/remote/known-hosts/remove", json={**entry, **changes})


def listed(client: FlaskClient) -> Any:
    response = client.get("/api/remote/known-hosts/list")
    assert response.status_code == 200
    return response.get_json()


def test_accept_list_remove(client: FlaskClient) -> None:
    assert listed(client) == {"entries": []}
    response = accept(client, unknown_field=1)
    assert (response.status_code, response.get_json()) == (200, {"ok": True})
    assert listed(client) == {"entries": [ENTRY]}
    response = remove(client)
    assert (response.status_code, response.get_json()) == (200, {"ok": True, "changed": True})
    assert remove(client).get_json() == {"ok": True, "changed": False}
    assert listed(client) == {"entries": []}


def test_a_port_as_text(client: FlaskClient) -> None:
    assert accept(client, port="22").status_code == 200
    assert listed(client)["entries"][0]["known_hosts_host"] == "gpu1"
    assert remove(client, port="22").get_json() == {"ok": True, "changed": True}


def test_a_key_that_no_handshake_has_shown(client: FlaskClient) -> None:
    for changes in ({"host": "gpu2"}, {"port": 2223}, {"host": "gpu1.example.org"}):
        response = accept(client, **changes)
        assert (response.status_code, response.get_json()["code"]) == (400, "HOST_KEY_NOT_SEEN")
        assert "Connect to the host first" in response.get_json()["hint"]
    assert listed(client) == {"entries": []}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"host": "a b"}, "Invalid host: it has white space"),
        ({"host": "a,b"}, "Invalid host: it has a comma; give one host"),
        ({"public_key": f"{TYPE} ***"}, "Invalid public_key: the key is not valid base64"),
        ({"key_type": "ssh-rsa"}, "key_type does not match public_key"),
        ({"fingerprint_sha256": "SHA256:x"}, "fingerprint_sha256 does not match public_key"),
    ],
)
def test_values_that_cannot_be_used(client: FlaskClient, changes: dict[str, Any], detail: str) -> None:
    response = accept(client, **changes)
    assert (response.status_code, response.get_json()["detail"]) == (400, detail)
    assert listed(client) == {"entries": []}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", None),
        ("port", 0),
        ("port", 65536),
        ("port", "ssh"),
        ("port", True),
        ("port", 22.5),
        ("host", None),
        ("host", 1),
        ("host", "a\0b"),
        ("host", "\ud800"),
        ("key_type", None),
        ("key_type", "ssh-ed25519\0"),
    ],
)
def test_fields_of_the_wrong_form(client: FlaskClient, field: str, value: Any) -> None:
    for send in (accept, remove):
        response = send(client, **{field: value})
        assert response.status_code == 422
        assert [fault["loc"] for fault in response.get_json()["detail"]] == [["body", field]]


def test_a_public_key_that_is_too_long(client: FlaskClient) -> None:
    filler = "c" * (8192 - len(KEY["public_key"]) - 1)  # type: ignore[arg-type]
    assert accept(client, public_key=f"{KEY['public_key']} {filler}").status_code == 200
    assert accept(client, public_key=f"{KEY['public_key']} {filler}c").status_code == 422


def test_all_missing_fields_are_named_at_once(client: FlaskClient) -> None:
    response = client.post("/api/remote/known-hosts/accept", json={})
    assert response.status_code == 422
    assert sorted(fault["loc"][1] for fault in response.get_json()["detail"]) == sorted(KEY)
    response = client.post("/api/remote/known-hosts/remove", json={})
    assert sorted(fault["loc"][1] for fault in response.get_json()["detail"]) == ["host", "key_type", "port"]


def test_methods(client: FlaskClient) -> None:
    for method, path, allowed in (
        ("GET", "accept", "POST"),
        ("POST", "list", "GET"),
        ("GET", "remove", "POST"),
    ):
        response = client.open(f"/api/remote/known-hosts/{path}", method=method, json={})
        assert response.status_code == 405
        assert allowed in response.headers["Allow"]


def test_a_file_that_cannot_be_read_is_said_so_and_left_alone(
    client: FlaskClient, services: Services
) -> None:
    path = services.known_hosts.file.path
    path.mkdir(parents=True)
    for response in (accept(client), remove(client), client.get("/api/remote/known-hosts/list")):
        assert (response.status_code, response.get_json()["code"]) == (500, "KNOWN_HOSTS_UNREADABLE")
        assert str(path) in response.get_json()["detail"]
    assert path.is_dir()
