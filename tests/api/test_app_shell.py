"""What the web page asks outside `/api/remote`: the shapes it reads, and what it asks us to remember."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runicorn_remote.services import Services
from tests.api.user import faults, outcome

# As Runicorn's own server writes it.
RUNICORNS = {
    "column_widths": {
        "experiments@1900x1000": {
            "widths": {"path": 180, "alias": 90},
            "window_width": 1920,
            "window_height": 1080,
            "updated_at": 1700000000.5,
        }
    },
    "dismissed_alerts": ["remote.intro"],
    "of a later version": {"kept": [1]},
}


@pytest.fixture
def preferences(services: Services) -> Path:
    """The file, which is not there yet."""
    services.state_dir.mkdir(mode=0o700)
    return services.state_dir / "ui_preferences.json"


def stored(file: Path) -> Any:
    return json.loads(file.read_text())


def dismissed(client: FlaskClient) -> list[str]:
    answer = client.get("/api/config/dismissed-alerts")
    assert answer.status_code == 200
    assert set(answer.json) == {"dismissed_alerts"}
    alerts: list[str] = answer.json["dismissed_alerts"]
    return alerts


def dismiss(client: FlaskClient, alert: str, verb: str = "dismiss") -> None:
    answer = client.post(f"/api/config/dismissed-alerts/{verb}", json={"alert_id": alert})
    assert (answer.status_code, answer.json["ok"]) == (200, True)


def widths_of(client: FlaskClient, table: str, size: str) -> Any:
    answer = client.get("/api/config/column-widths", query_string={"table": table, "size": size})
    assert answer.status_code == 200
    assert (answer.json["table"], answer.json["size"]) == (table, size)
    return answer.json["widths"]


def test_the_first_run_drawer_stays_closed(client: FlaskClient, services: Services) -> None:
    config = client.get("/api/config").json
    assert set(config) == {"user_root_dir", "storage", "config_file", "home_directory"}
    assert all(isinstance(value, str) and value for value in config.values())
    assert config["user_root_dir"] == str(services.state_dir)
    assert config["home_directory"] == str(Path.home())


def test_there_is_nothing_local(client: FlaskClient) -> None:
    assert client.get("/api/runs").json == []
    paths = client.get("/api/paths?include_stats=true").json
    assert paths == {"paths": [], "tree": {}, "stats": {}}
    telemetry = client.get("/api/gpu/telemetry").json
    assert (telemetry["available"], telemetry["gpus"]) == (False, [])
    assert telemetry["reason"]
    assert client.get("/api/gpu/telemetry/history").json["samples"] == []
    assert client.get("/api/gpu/telemetry/config").json["interval_sec"] > 0


@pytest.mark.parametrize(
    "path",
    ["storage/stats", "system/monitor", "config/storage-candidates", "recycle-bin", "diagnostics/sources"],
)
def test_what_only_a_local_storage_has_is_not_found(client: FlaskClient, path: str) -> None:
    assert outcome(client.get(f"/api/{path}")) == (404, "NOT_FOUND")


def test_hints_are_dismissed_and_restored(client: FlaskClient) -> None:
    assert dismissed(client) == []
    for alert in ("remote.intro", "remote.env.selectHint", "remote.intro"):
        dismiss(client, alert)
    assert dismissed(client) == ["remote.intro", "remote.env.selectHint"]
    dismiss(client, "remote.intro", "undismiss")
    dismiss(client, "never.dismissed", "undismiss")
    assert dismissed(client) == ["remote.env.selectHint"]
    # The page sends no body.
    assert client.post("/api/config/dismissed-alerts/clear").json["ok"] is True
    assert dismissed(client) == []


def test_column_widths_are_kept_for_each_table_and_size(client: FlaskClient) -> None:
    url = "/api/config/column-widths"
    for size, width in (("1900x1000", 120), ("1300x1000", 80), ("1300x1000", 90)):
        answer = client.post(
            url, json={"table": "experiments", "size": size, "widths": {"path": width}, "window_width": 1}
        )
        assert (answer.status_code, answer.json["ok"]) == (200, True)
    assert widths_of(client, "experiments", "1900x1000") == {"path": 120}
    assert widths_of(client, "experiments", "1300x1000") == {"path": 90}
    assert widths_of(client, "runs", "1300x1000") == {}


def test_what_is_no_preference_is_a_422(client: FlaskClient) -> None:
    for body in ({}, {"alert_id": 1}, {"alert_id": "x" * 201}, {"alert_id": None}):
        assert faults(client.post("/api/config/dismissed-alerts/dismiss", json=body)) == {"alert_id"}
    assert faults(client.get("/api/config/column-widths")) == {"table", "size"}
    good = {"table": "experiments", "size": "1x1", "widths": {"path": 120}}
    for widths in ("wide", {"path": "wide"}, {"path": 1.5}, {str(i): 1 for i in range(101)}, {"x" * 101: 1}):
        answer = client.post("/api/config/column-widths", json={**good, "widths": widths})
        assert answer.status_code == 422
        assert answer.json["detail"][0]["loc"][:2] == ["body", "widths"]


def test_what_runicorn_remembers_is_read_and_kept(client: FlaskClient, preferences: Path) -> None:
    preferences.write_text(json.dumps(RUNICORNS))
    assert dismissed(client) == ["remote.intro"]
    assert widths_of(client, "experiments", "1900x1000") == {"path": 180, "alias": 90}
    dismiss(client, "remote.env.checkRunicorn")
    assert stored(preferences) == {
        **RUNICORNS,
        "dismissed_alerts": ["remote.intro", "remote.env.checkRunicorn"],
    }
    assert stat.S_IMODE(preferences.stat().st_mode) == 0o600


def test_nobody_loses_a_change_to_another(app: Flask) -> None:
    alerts = [f"alert.{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda alert: dismiss(app.test_client(), alert), alerts))
    assert sorted(dismissed(app.test_client())) == sorted(alerts)


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * 2**20 + b'"}']
)
def test_a_file_that_cannot_be_read_counts_as_empty_and_is_left_alone(
    client: FlaskClient, preferences: Path, content: bytes
) -> None:
    preferences.write_bytes(content)
    assert dismissed(client) == []
    assert widths_of(client, "experiments", "1x1") == {}
    answer = client.post("/api/config/dismissed-alerts/dismiss", json={"alert_id": "remote.intro"})
    assert answer.status_code == 500
    assert str(preferences) in answer.json["detail"]
    assert preferences.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        {"dismissed_alerts": "remote.intro", "column_widths": []},
        {"dismissed_alerts": {"a": 1}, "column_widths": {"experiments@1x1": 5}},
        {"dismissed_alerts": [None, 5, ["a"]], "column_widths": {"experiments@1x1": {"widths": []}}},
        {"column_widths": {"experiments@1x1": {"widths": {"path": "wide", "alias": True}}}},
    ],
)
def test_odd_content_counts_as_none(client: FlaskClient, preferences: Path, content: Any) -> None:
    preferences.write_text(json.dumps(content))
    assert dismissed(client) == []
    assert widths_of(client, "experiments", "1x1") == {}
    dismiss(client, "remote.intro")
    assert dismissed(client) == ["remote.intro"]
    client.post("/api/config/column-widths", json={"table": "experiments", "size": "1x1", "widths": {"a": 1}})
    assert widths_of(client, "experiments", "1x1") == {"a": 1}


def test_the_file_does_not_grow_without_end(client: FlaskClient, preferences: Path) -> None:
    nearly_full = {"dismissed_alerts": ["x" * 199] * 5000}
    preferences.write_text(json.dumps(nearly_full))
    answers = [
        client.post(
            "/api/config/column-widths",
            json={"table": "t" * 100, "size": f"{number}", "widths": {f"{i:0100}": 1 for i in range(100)}},
        )
        for number in range(5)
    ]
    assert outcome(answers[-1]) == (500, "PREFERENCES_FULL")
    assert preferences.stat().st_size <= 2**20
    assert len(dismissed(client)) == 5000, "what was there is still there"
    client.post("/api/config/dismissed-alerts/clear")
    dismiss(client, "remote.intro")
    assert dismissed(client) == ["remote.intro"]
