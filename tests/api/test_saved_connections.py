"""GET and POST /api/remote/connections/saved, as the frontends and scripts use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runicorn_remote.app import create_app
from runicorn_remote.settings import Settings

URL = "/api/remote/connections/saved"
SERVER = {
    "kind": "server",
    "id": "srv_me_gpu_22",
    "name": "gpu box",
    "host": "gpu",
    "port": 22,
    "username": "me",
    "authMethod": "password",
    "createdAt": 1700000000000,
}
PROFILE = {
    "kind": "connection",
    "id": "conn_1700000000000_abcdefghi",
    "serverId": "srv_me_gpu_22",
    "name": "torch",
    "condaEnv": "torch",
    "remoteRoot": "/home/me/runs",
    "localPort": None,
    "createdAt": 1700000000001,
}
NO_SECRETS = {"hasSavedPassword": False, "hasSavedPrivateKey": False, "hasSavedPassphrase": False}


def save(client: FlaskClient, entries: Any) -> Any:
    answer = client.post(URL, json=entries)
    assert answer.status_code == 200, answer.json
    return answer.json


def listed(client: FlaskClient) -> list[dict[str, Any]]:
    answer = client.get(URL)
    assert answer.status_code == 200, answer.json
    assert answer.json["ok"] is True
    return answer.json["connections"]


def test_the_list_is_empty_at_first(client: FlaskClient) -> None:
    assert client.get(URL).json == {"ok": True, "connections": []}


def test_a_list_comes_back_with_flags_in_place_of_secrets(client: FlaskClient) -> None:
    answer = save(client, [{**SERVER, "password": "canary-hunter2"}, PROFILE])
    assert answer == {"ok": True, "message": "Connections saved successfully"}
    assert listed(client) == [{**SERVER, **NO_SECRETS, "hasSavedPassword": True}, PROFILE]
    assert "canary" not in client.get(URL).text


def test_a_false_flag_forgets_and_an_absent_one_keeps(client: FlaskClient) -> None:
    save(client, [{**SERVER, "password": "hunter2"}])
    save(client, [SERVER])
    assert listed(client)[0]["hasSavedPassword"] is True
    save(client, [{**SERVER, "hasSavedPassword": False}])
    assert listed(client)[0]["hasSavedPassword"] is False


def test_null_forgets(client: FlaskClient) -> None:
    save(client, [{**SERVER, "password": "hunter2"}])
    save(client, [{**SERVER, "password": None}])
    assert listed(client)[0]["hasSavedPassword"] is False


def test_unknown_fields_survive_in_their_order(client: FlaskClient) -> None:
    extra = {"zebra": {"b": [1, None, {"a": 0.5}], "a": "ä"}, "apple": "🍏", "": [], "dotted.name": {}}
    save(client, [{**extra, **SERVER}, {**extra, **PROFILE}])
    for entry in listed(client):
        assert {name: entry[name] for name in extra} == extra
    assert list(listed(client)[1]) == [*extra, *PROFILE]


def test_snake_case_is_read(client: FlaskClient) -> None:
    entry = {name: value for name, value in SERVER.items() if name not in ("authMethod", "createdAt")}
    save(client, [{**entry, "auth_method": "key", "created_at": 17, "private_key_path": "~/.ssh/id"}])
    [found] = listed(client)
    assert (found["authMethod"], found["createdAt"], found["privateKeyPath"]) == ("key", 17, "~/.ssh/id")
    assert found["hasSavedPrivateKey"] is True
    assert not {"auth_method", "created_at", "private_key_path"} & set(found)


def test_an_empty_list_deletes_everything(client: FlaskClient) -> None:
    save(client, [SERVER, PROFILE])
    save(client, [])
    assert listed(client) == []


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "null",
        '"text"',
        "5",
        "[null]",
        "[[]]",
        '["text"]',
        '{"connections": []}',
        '[{"kind": "server"}, 5]',
    ],
)
def test_what_is_no_list_of_objects_is_refused(client: FlaskClient, body: str) -> None:
    save(client, [SERVER])
    answer = client.post(URL, data=body, content_type="application/json")
    assert answer.status_code in (400, 422)
    assert answer.json["detail"]
    assert len(listed(client)) == 1


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({**SERVER, "kind": "group"}, "its kind is neither"),
        ({"id": "c", "host": "gpu", "username": "me"}, "its kind is neither"),
        ({**SERVER, "host": ""}, "host is missing"),
        ({**SERVER, "port": 70000}, "port is not a number from 1 to 65535"),
        ({**SERVER, "password": ["canary"]}, "password is neither text nor null"),
        ({**SERVER, "host": "\ud800"}, "not valid Unicode"),
        ({**SERVER, "username": "a\x00b"}, "control characters"),
        ({**PROFILE, "remoteRoot": {}}, "remoteRoot is neither"),
        (PROFILE, "another entry has the same id"),
    ],
)
def test_an_entry_that_cannot_be_saved_is_a_400_with_a_sentence(
    client: FlaskClient, entry: dict[str, Any], problem: str
) -> None:
    answer = client.post(URL, json=[PROFILE, entry])
    assert answer.status_code == 400
    assert answer.json["detail"].startswith("Entry 2 of the list")
    assert problem in answer.json["detail"]
    assert answer.json["code"] == "INVALID_VALUE"
    assert "canary" not in answer.text
    assert listed(client) == []


@pytest.mark.parametrize(
    "body",
    [
        "[",
        "",
        "[" * 100_000,
        "[" + "9" * 5000 + "]",
        json.dumps([{**PROFILE, "note": 0}]).replace("0}", "NaN}"),
        json.dumps([{**PROFILE, "note": 0}]).replace("0}", "1e999}"),
        '[{"kind": "connection", "id": "c", "note": ' + "[" * 500 + "]" * 500 + "}]",
    ],
)
def test_json_that_is_none_is_a_400(client: FlaskClient, body: str) -> None:
    answer = client.post(URL, data=body, content_type="application/json")
    assert answer.status_code == 400, answer.json
    assert isinstance(answer.json["detail"], str)
    assert listed(client) == []


def test_another_content_type_is_a_415(client: FlaskClient) -> None:
    assert client.post(URL, data="[]", content_type="text/plain").status_code == 415


@pytest.mark.parametrize("store_secrets", [True, False])
def test_a_server_that_stores_no_secrets_says_so(tmp_path: Path, store_secrets: bool) -> None:
    settings = Settings(state_dir=str(tmp_path), frontend="off", store_secrets=store_secrets)
    client = create_app(settings).test_client()
    assert ("warning" in save(client, [{**SERVER, "password": "hunter2"}])) is not store_secrets
    [entry] = client.get(URL).json["connections"]
    assert entry["hasSavedPassword"] is store_secrets
    # What the web page posts back then has no secret in it.
    assert "warning" not in save(client, [entry])
