"""The guards, over every route there is: a new route without one fails here."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from runicorn_remote.app import create_app
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings

TOKEN = "0123456789abcdef" * 2
STRANGERS = {
    "rebinding": ({"Host": "evil.example"}, 403, "HOST_NOT_ALLOWED"),
    "rebinding with our port": ({"Host": "evil.example:23300"}, 403, "HOST_NOT_ALLOWED"),
    "a name that looks like ours": ({"Host": "localhost.evil.example"}, 403, "HOST_NOT_ALLOWED"),
    "a Host that is none": ({"Host": "localhost:x"}, 403, "HOST_NOT_ALLOWED"),
    "another site": ({"Origin": "https://evil.example"}, 403, "ORIGIN_NOT_ALLOWED"),
    "a page through our own tunnel": ({"Origin": "http://localhost:41234"}, 403, "ORIGIN_NOT_ALLOWED"),
    "a sandboxed page": ({"Origin": "null"}, 403, "ORIGIN_NOT_ALLOWED"),
    "an image on another site": ({"Sec-Fetch-Site": "cross-site"}, 403, "ORIGIN_NOT_ALLOWED"),
    "an image in a tunnelled page": ({"Sec-Fetch-Site": "same-site"}, 403, "ORIGIN_NOT_ALLOWED"),
}


def routes(app: Flask) -> list[tuple[str, str]]:
    found = []
    for rule in app.url_map.iter_rules():
        path = re.sub("<.*?>", "x", rule.rule)
        found += [(method, path) for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})]
    return found


@pytest.mark.parametrize("stranger", STRANGERS)
def test_strangers_are_refused_on_every_route(app: Flask, client: FlaskClient, stranger: str) -> None:
    headers, status, code = STRANGERS[stranger]
    asked = routes(app)
    assert len(asked) > 20
    for method, path in asked:
        with client.open(path, method=method, headers=headers) as answer:
            assert (answer.status_code, answer.json["code"]) == (status, code), (method, path)
            assert answer.json["hint"]
            assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:23300"},
        {"Host": "[::1]:23300"},
        {"Host": "LOCALHOST."},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_rightful_users_pass(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/api/remote/sessions", headers=headers).status_code == 200


def test_a_link_to_the_web_page_may_be_followed_but_not_to_the_api(client: FlaskClient) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/remote/sessions", headers=link).status_code == 403
    assert client.get("/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403


def client_with(settings: Settings, token: str | None = None) -> FlaskClient:
    return create_app(services=Services(settings, token=token)).test_client()


def test_listed_hosts_and_origins_pass(tmp_path: object) -> None:
    origin = "http://localhost:5173"
    client = client_with(
        Settings(
            state_dir=str(tmp_path), frontend="off", allowed_hosts=("jump-box",), allowed_origins=(origin,)
        )
    )
    assert client.get("/api/remote/sessions", headers={"Host": "Jump-Box:23300"}).status_code == 200
    answer = client.get("/api/remote/sessions", headers={"Origin": origin, "Sec-Fetch-Site": "same-site"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, origin)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    preflight = client.options(
        "/api/remote/connect", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    assert client.get("/api/remote/sessions", headers={"Origin": "http://localhost:5174"}).status_code == 403


def test_a_token_is_required_on_every_route_of_the_api(tmp_path: object) -> None:
    client = client_with(Settings(state_dir=str(tmp_path), frontend="off"), TOKEN)
    for method, path in routes(client.application):
        if not path.startswith(("/api/", "/metrics")) or path == "/api/health":
            continue
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = client.open(path, method=method, headers=header)
            assert (answer.status_code, answer.json["code"]) == (401, "TOKEN_REQUIRED"), (method, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/remote/sessions", headers=good).status_code == 200
    assert client.get("/api/health").status_code == 200


def test_answers_cannot_be_framed_or_sniffed(client: FlaskClient) -> None:
    headers = client.get("/api/health").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.7"])
def test_another_machine_needs_a_token_whatever_server_listens_to_it(app: Flask, address: str) -> None:
    """Under a foreign WSGI server, which may listen anywhere."""
    for method, path in routes(app):
        with app.test_client().open(path, method=method, environ_base={"REMOTE_ADDR": address}) as answer:
            assert (answer.status_code, answer.json["code"]) == (403, "TOKEN_NOT_SET"), (method, path)
            assert "token_file" in answer.json["hint"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "", "localhost", "unix:"]
)
def test_this_machine_needs_none(client: FlaskClient, address: str) -> None:
    assert client.get("/api/health", environ_base={"REMOTE_ADDR": address}).status_code == 200


def test_another_machine_with_the_token(settings: Settings) -> None:
    client = create_app(services=Services(settings, token=TOKEN)).test_client()
    request = {"path": "/api/remote/status", "environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    assert client.get(**request).status_code == 401
    assert client.get(**request, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
