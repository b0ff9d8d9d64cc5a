"""What is kept of every request: an id, a line in the log, and for actions a line in the audit log."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runicorn_remote.api.peer import PEER_UID
from runicorn_remote.logs import request_id
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings

HEADER = "X-Request-ID"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=str(tmp_path / "state"), frontend="off", audit_log=str(tmp_path / "audit.jsonl")
    )


def audited(services: Services) -> list[dict[str, Any]]:
    path = Path(services.settings.audit_log or "")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- ids


@pytest.mark.parametrize("given", ["a", "abc.DEF_1-2", "x" * 64])
def test_a_sane_id_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/api/health", headers={HEADER: given}).headers[HEADER] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a;b", "é", "<script>", 'a"b'])
def test_another_gets_a_new_one(client: FlaskClient, given: str) -> None:
    answers = [client.get("/api/health", headers={HEADER: given}).headers[HEADER] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{16}", answer) for answer in answers)
    assert answers[0] != answers[1]


def test_every_answer_has_one(app: Flask, client: FlaskClient) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    app.add_url_rule("/raise", view_func=fail)
    for method, path, headers in (
        ("GET", "/", {}),
        ("GET", "/nothing", {}),
        ("DELETE", "/api/health", {}),
        ("POST", "/api/remote/connect", {}),
        ("GET", "/api/health", {"Host": "evil.example"}),
        ("GET", "/raise", {}),
    ):
        with client.open(path, method=method, headers={HEADER: "mine", **headers}) as answer:
            assert answer.headers[HEADER] == "mine", path
    assert request_id.get() is None, "the thread goes on with other requests"


def test_an_internal_error_says_where_it_is_in_the_log(
    app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    app.add_url_rule("/raise", view_func=fail)
    answer = client.get("/raise", headers={HEADER: "mine"})
    assert (answer.status_code, answer.json["code"]) == (500, "INTERNAL_ERROR")
    assert "[mine]" in answer.json["hint"]


def test_actions_are_logged_and_polls_only_for_debugging(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "runicorn_remote.api.observe"):
        client.get("/api/remote/status?password=canary")
        client.post("/api/remote/viewer/stop", json={"session_id": "x"})
    poll, action = (record for record in caplog.records if record.name == "runicorn_remote.api.observe")
    assert (poll.levelno, action.levelno) == (logging.DEBUG, logging.INFO)
    assert re.fullmatch(r"GET /api/remote/status: 200 in [0-9.]+ ms", poll.getMessage())
    assert action.getMessage().startswith("POST /api/remote/viewer/stop: 404 in ")


# --- the audit log


def test_every_action_has_a_line(app: Flask, client: FlaskClient, services: Services) -> None:
    """Also a new one: it is called as its view is, until it has a name."""
    actions = 0
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
            if rule.rule.startswith("/api/remote"):
                client.open(re.sub("<[^>]*>", "x", rule.rule), method=method, json={})
                actions += 1
    lines = audited(services)
    assert len(lines) == actions >= 6
    assert "ok" not in {line["result"] for line in lines}
    names = {line["action"] for line in lines}
    assert {"connect", "disconnect", "viewer.start", "viewer.stop", "known_hosts.accept"} <= names
    assert {"known_hosts.remove", "saved_connections.write"} <= names


def test_questions_have_none(client: FlaskClient, services: Services) -> None:
    for path in ("/", "/healthz", "/metrics", "/api/remote/status", "/api/remote/nothing"):
        client.get(path)
    client.post("/api/remote/nothing", json={})
    client.post("/api/config/dismissed-alerts/clear", json={})
    assert audited(services) == []


def test_what_an_action_was_about(client: FlaskClient, services: Services) -> None:
    body = {"host": "::1", "username": "me", "port": 9, "password": "canary-secret", "use_agent": False}
    client.post("/api/remote/connect", json=body, headers={HEADER: "mine"})
    client.post("/api/remote/viewer/start", json={**body, "remote_root": "/data", "saved_server_id": "none"})
    client.post("/api/remote/viewer/stop", json={"session_id": "x\ny"})
    client.post("/api/remote/disconnect", json={"host": "gpu1", "port": 22, "username": "me"})
    client.post("/api/remote/connections/saved", json=[])
    connect, start, stop, disconnect, saved = audited(services)
    assert connect["request_id"] == "mine"
    assert connect["result"] != "ok"
    assert connect["target"] == {"connection_id": "me@[::1]:9"}
    assert (start["result"], start["target"]["saved_server_id"]) == ("SAVED_SERVER_NOT_FOUND", "none")
    assert stop["target"] == {"session_id": "x\ny"}
    assert (disconnect["result"], disconnect["target"]) == ("ok", {"connection_id": "me@gpu1:22"})
    assert saved["action"] == "saved_connections.write"
    assert "canary" not in json.dumps(audited(services))


def test_a_request_that_a_guard_refuses(client: FlaskClient, services: Services) -> None:
    client.get("/api/remote/status", headers={"Host": "evil.example"})
    client.post("/api/remote/connect", json={}, headers={"Origin": "https://evil.example"})
    client.post("/api/remote/connect", data="{}", content_type="text/plain")
    lines = audited(services)
    assert [(line["action"], line["result"]) for line in lines] == [
        ("refused", "HOST_NOT_ALLOWED"),
        ("refused", "ORIGIN_NOT_ALLOWED"),
        ("refused", "UNSUPPORTED_MEDIA_TYPE"),
    ]
    assert lines[0]["target"] == {"method": "GET", "route": "/api/remote/status", "host": "evil.example"}
    assert lines[1]["target"]["origin"] == "https://evil.example"


def test_who_it_was_over_a_unix_socket(client: FlaskClient, services: Services) -> None:
    mine, stranger = os.geteuid(), os.geteuid() + 1
    for uid, status in ((mine, 404), (stranger, 403)):
        answer = client.post(
            "/api/remote/viewer/stop", json={"session_id": "x"}, environ_overrides={PEER_UID: uid}
        )
        assert answer.status_code == status
    own, refused = audited(services)
    assert (own["action"], own["uid"], own["address"]) == ("viewer.stop", mine, None)
    assert (refused["action"], refused["uid"], refused["result"]) == ("refused", stranger, "USER_NOT_ALLOWED")
