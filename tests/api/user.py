"""A user at the API, with an account on a real SSH server."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.hosts.sshd import SshServer


class User:
    """Sends requests as the clients do; answers are the plain responses."""

    def __init__(self, client: FlaskClient, server: SshServer) -> None:
        self.client = client
        self.server = server

    @property
    def connection_id(self) -> str:
        return f"{self.server.username}@{self.server.host}:{self.server.port}"

    def account(self, **changes: Any) -> dict[str, Any]:
        """Where and who, without anything that proves it."""
        server = self.server
        return {"host": server.host, "port": server.port, "username": server.username, **changes}

    def credentials(self, **changes: Any) -> dict[str, Any]:
        return self.account(private_key_path=str(self.server.client_key), **changes)

    def post(self, route: str, body: Any) -> TestResponse:
        return self.client.post(f"/api/remote/{route}", json=body)

    def get(self, route: str, **query: Any) -> TestResponse:
        return self.client.get(f"/api/remote/{route}", query_string=query)

    def connect(self, **changes: Any) -> TestResponse:
        return self.post("connect", self.credentials(**changes))

    def disconnect(self, **changes: Any) -> TestResponse:
        return self.post("disconnect", self.account(**changes))

    def ask(self, route: str, **query: Any) -> TestResponse:
        """A GET about the connection."""
        return self.get(route, connection_id=self.connection_id, **query)

    def start(self, **changes: Any) -> TestResponse:
        return self.post("viewer/start", self.credentials(**{"remote_root": "~/data", **changes}))

    def started(self, **changes: Any) -> dict[str, Any]:
        """A session that runs."""
        answer = self.start(**changes)
        assert answer.status_code == 200, answer.get_json()
        session: dict[str, Any] = answer.get_json()["session"]
        return session

    def stop(self, session_id: str) -> TestResponse:
        return self.post("viewer/stop", {"session_id": session_id})


def outcome(answer: TestResponse) -> tuple[int, str]:
    """Status and code of an error."""
    body = answer.get_json()
    assert isinstance(body, dict), answer.data[:200]
    assert "detail" in body, body
    return answer.status_code, body["code"]


def faults(answer: TestResponse) -> set[str]:
    """The names of the fields a 422 complains about, after a look at its form."""
    assert answer.status_code == 422, answer.get_json()
    body = answer.get_json()
    assert set(body) == {"detail", "code"}
    for fault in body["detail"]:
        assert set(fault) == {"loc", "msg", "type"}
        assert fault["loc"][0] in ("body", "query", "headers")
        assert isinstance(fault["msg"], str)
        assert fault["type"] in ("missing", "value_error")
    return {fault["loc"][-1] for fault in body["detail"]}
