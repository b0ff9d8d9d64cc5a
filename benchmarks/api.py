"""Asking a server with the Remote API, ours or Runicorn's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tests.hosts.sshd import SshServer

STAND_IN = "far-end"


class Failed(Exception):
    """A contestant did not do what is measured."""


class Api:
    """A server with the Remote API, and its process."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def request(self, method: str, path: str, body: Any = None, timeout: float = 120.0) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, route: str, **query: Any) -> Any:
        return self._done("GET", f"/api/remote/{route}" + (f"?{urlencode(query)}" if query else ""))

    def post(self, route: str, **body: Any) -> Any:
        return self._done("POST", f"/api/remote/{route}", body)

    def start_viewer(self, credentials: Mapping[str, Any], environment: str = STAND_IN) -> dict[str, Any]:
        session: dict[str, Any] = self.post(
            "viewer/start", **credentials, remote_root="~/storage", conda_env=environment
        )["session"]
        return session

    def _done(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self.request(method, path, body)
        if status != 200:
            raise Failed(f"{method} {path}: {status} {answer}")
        return answer


def credentials(host: SshServer, port: int | None = None) -> dict[str, Any]:
    return {
        "host": host.host,
        "port": port or host.port,
        "username": host.username,
        "private_key_path": str(host.client_key),
        "use_agent": False,
    }


def connection_id(host: SshServer, port: int | None = None) -> str:
    return f"{host.username}@{host.host}:{port or host.port}"
