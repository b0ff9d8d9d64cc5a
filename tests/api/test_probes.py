"""For machines: `/healthz`, `/readyz` and `/metrics`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from runicorn_remote.app import create_app
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings

TOKEN = "0123456789abcdef" * 2
GOOD = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def started(services: Services) -> Services:
    services.start()
    return services


def scrape(client: FlaskClient, **headers: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(client: FlaskClient, name: str, **labels: str) -> float:
    return scrape(client)[f"runicorn_remote_{name}", frozenset(labels.items())]


def test_healthz_says_that_the_process_lives_before_anything_is_started(client: FlaskClient) -> None:
    assert client.get("/healthz").json == {"status": "ok"}


def test_readyz_follows_the_life_of_the_server(client: FlaskClient, services: Services) -> None:
    def readiness() -> tuple[int, list[str]]:
        answer = client.get("/readyz")
        return answer.status_code, answer.json["reasons"]

    assert readiness() == (503, ["The server has not started yet."])
    services.start()
    assert readiness() == (200, [])
    assert value(client, "ready") == 1
    services.heartbeat.close()
    assert readiness() == (503, ["The heartbeat has ended: nobody looks after viewers."])
    services.close()
    assert readiness() == (503, ["The server is shutting down."])


def test_a_second_server_on_a_state_directory_is_not_ready(started: Services, tmp_path: Path) -> None:
    second = Services(started.settings)
    second.start()
    try:
        answer = create_app(services=second).test_client().get("/readyz")
        assert answer.status_code == 503
        assert "state directory" in answer.json["reasons"][0]
    finally:
        second.close()


def test_a_late_heartbeat_is_a_reason(
    client: FlaskClient, started: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(started.heartbeat, "age", lambda: 100.0)
    assert client.get("/readyz").json["reasons"] == [
        "The heartbeat is late: the last one was 100 seconds ago."
    ]
    assert value(client, "heartbeat_age_seconds") == 100


def test_requests_are_counted_by_route_not_by_path(client: FlaskClient) -> None:
    before = len(scrape(client))
    for number in range(50):
        client.get(f"/api/remote/viewer/status/{number}")
        client.get(f"/api/nothing/{number}")
        client.open("/api/health", method=f"METHOD{number}")
    answers = scrape(client)
    assert len(answers) - before < 80
    counted = "runicorn_remote_http_requests_total"
    route = {"route": "/api/remote/viewer/status/<session_id>", "method": "GET", "status": "404"}
    assert answers[counted, frozenset(route.items())] == 50
    none = {"route": "(none)", "method": "GET", "status": "404"}
    assert answers[counted, frozenset(none.items())] == 50
    times = {"route": route["route"], "method": "GET"}
    assert answers["runicorn_remote_http_request_seconds_count", frozenset(times.items())] == 50


def test_slow_requests_under_way_are_seen(client: FlaskClient, services: Services) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(connection_id: str) -> None:
        begun.set()
        go_on.wait(30)

    services.connections.get = wait  # type: ignore[method-assign,assignment]
    asks = threading.Thread(
        target=client.get,
        args=("/api/remote/conda-envs",),
        kwargs={"query_string": {"connection_id": "me@gpu1:22"}},
    )
    asks.start()
    assert begun.wait(30)
    assert value(create_app(services=services).test_client(), "slow_requests") == 1
    go_on.set()
    asks.join(30)
    assert value(client, "slow_requests") == 0


def test_logins_are_counted_by_outcome(client: FlaskClient) -> None:
    client.post(
        "/api/remote/connect", json={"host": "127.0.0.1", "port": 9, "username": "me", "password": "x"}
    )
    failed = {
        dict(labels)["outcome"]: count
        for (name, labels), count in scrape(client).items()
        if name == "runicorn_remote_ssh_connects_total"
    }
    assert failed.pop("ok") == 0
    assert list(failed.values()) == [1]
    assert failed.keys() <= {"CONNECTION_REFUSED", "HOST_UNREACHABLE", "PORT_CLOSED"}


def test_openmetrics_for_those_who_ask(client: FlaskClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type.startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {"runicorn_remote_sessions", "runicorn_remote_tunnel_bytes", "process_open_fds"} <= families


@pytest.fixture
def with_token(tmp_path: Path) -> Iterator[FlaskClient]:
    services = Services(Settings(state_dir=str(tmp_path / "state"), frontend="off"), token=TOKEN)
    yield create_app(services=services).test_client()
    services.close()


def test_only_metrics_want_the_token(with_token: FlaskClient) -> None:
    for path in ("/metrics", "/metrics/"):
        assert with_token.get(path).json["code"] == "TOKEN_REQUIRED"
        assert with_token.get(path, headers=GOOD).status_code == 200
    assert with_token.get("/healthz").status_code == 200
    assert with_token.get("/readyz").status_code == 503


def test_a_link_on_another_site_does_not_open_the_metrics(client: FlaskClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/metrics", headers=link).status_code == 403


def test_metrics_can_be_off(tmp_path: Path) -> None:
    settings = Settings(state_dir=str(tmp_path), frontend="off", metrics=False)
    client = create_app(settings).test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/healthz").status_code == 200
