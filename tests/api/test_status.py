"""`/status`: connections and viewers at a glance, from memory alone."""

from __future__ import annotations

import socket
import threading

import pytest
from flask.testing import FlaskClient

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.status import StatusSchema
from runicorn_remote.api.schemas.viewers import SessionSchema, SessionsSchema
from tests.api.user import User
from tests.ssh.tunnel_kit import TcpServer, swallow, wait_until


def test_nothing_yet(client: FlaskClient) -> None:
    assert client.get("/api/remote/status").get_json() == {
        "connections": [],
        "viewer_sessions": [],
        "connection_count": 0,
        "viewer_session_count": 0,
    }
    assert client.get("/api/remote/sessions").get_json() == {"sessions": []}
    assert client.get("/api/remote/viewer/sessions").get_json() == {"sessions": []}


@pytest.mark.sshd
def test_a_connection_and_a_viewer(connected: User) -> None:
    session_id = connected.started(conda_env="serves")["sessionId"]
    body = connected.get("status").get_json()
    assert set(body) == {"connections", "viewer_sessions", "connection_count", "viewer_session_count"}
    assert body["connections"] == connected.get("sessions").get_json()["sessions"]
    assert body["connections"] == [{"key": connected.connection_id, **connected.account(), "connected": True}]
    assert [session["sessionId"] for session in body["viewer_sessions"]] == [session_id]
    assert set(body["viewer_sessions"][0]) == set(connected.get(f"viewer/status/{session_id}").get_json())
    assert (body["connection_count"], body["viewer_session_count"]) == (1, 1)


@pytest.mark.sshd
def test_the_answers_that_no_schema_wrote_are_what_their_schemas_would_have_written(connected: User) -> None:
    session_id = connected.started(conda_env="serves")["sessionId"]
    connected.started(conda_env="serves")
    routes: dict[str, Schema] = {
        "status": StatusSchema(),
        "viewer/sessions": SessionsSchema(),
        f"viewer/status/{session_id}": SessionSchema(),
    }
    for route, schema in routes.items():
        answer = connected.get(route)
        assert answer.content_type == "application/json"
        body = answer.get_json()
        assert schema.dump(body) == body, "nothing that it does not describe, and of the same types"
        assert not schema.validate(body)
        assert set(schema.fields) == set(body)
    assert set(SessionSchema().fields) == set(body)


@pytest.mark.sshd
def test_a_connection_that_broke_is_listed_as_not_connected(connected: User) -> None:
    def listed() -> list[bool]:
        return [each["connected"] for each in connected.get("sessions").get_json()["sessions"]]

    assert listed() == [True]
    connected.server.kill_connections()
    wait_until(lambda: listed() == [False], "the loss is noticed")
    answer = connected.ask("fs/list", path="/")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "CONNECTION_NOT_FOUND")
    assert connected.connect().status_code == 200
    assert listed() == [True]


@pytest.mark.sshd
def test_hosts_that_hang_delay_neither_the_status_nor_another_host(user: User) -> None:
    hanging: list[threading.Thread] = []
    greeted: list[bytes] = []

    def say_nothing(sock: socket.socket) -> None:
        greeted.append(sock.recv(100))
        swallow(sock)

    with TcpServer(say_nothing) as silent:
        body = user.credentials(port=silent.port)
        for number in range(8):
            client = user.client.application.test_client()
            request = {"json": {**body, "username": f"user{number}"}}
            thread = threading.Thread(
                target=client.post, args=("/api/remote/connect",), kwargs=request, name=f"hang-{number}"
            )
            thread.start()
            hanging.append(thread)
        # Below the limit of requests that wait for a host, so that one more is let in.
        wait_until(lambda: len(greeted) == 8, "eight logins hang")
        for path in ("/api/health", "/api/remote/status", "/api/remote/sessions"):
            assert user.client.get(path).status_code == 200
        assert user.connect().status_code == 200
        assert all(thread.is_alive() for thread in hanging), "they hang still"
    for thread in hanging:
        thread.join(30)
        assert not thread.is_alive()
