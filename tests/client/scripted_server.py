"""A server that answers what a test tells it to: what the real one does not do on demand."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

STOP_TIMEOUT = 10.0
# How soon a server that is closed notices.
_POLL_INTERVAL = 0.02


@dataclass(frozen=True)
class Answer:
    """`body` as JSON, unless it is bytes. Without a status the connection is cut off."""

    status: int | None = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ScriptedServer:
    """Gives the answer of the path, by default `answer`. Keeps what was asked in `requests`."""

    def __init__(self, answer: Answer | None = None, **answers: Answer) -> None:
        self.answer = answer or Answer()
        self.answers = {f"/api/remote/{path.replace('__', '/')}": value for path, value in answers.items()}
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._handle(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # closing the server joins them
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_INTERVAL,), name="scripted-server"
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(STOP_TIMEOUT)
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        sent = handler.rfile.read(length)
        path = handler.path.partition("?")[0]
        self.requests.append(
            Request(
                str(handler.command), handler.path, dict(handler.headers), json.loads(sent) if sent else None
            )
        )
        answer = self.answers.get(path, self.answer)
        handler.close_connection = True
        if answer.status is None:
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)
