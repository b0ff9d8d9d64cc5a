"""With `local_viewer`, one address has everything: what is not ours goes to a real local viewer."""

from __future__ import annotations

import http.server
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from runicorn_remote._version import __version__
from runicorn_remote.app import create_app
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings, SettingsError
from tests.api.test_route_map import ROUTES
from tests.api.user import outcome
from tests.hosts.server import ServerProcess
from tests.hosts.viewer import LocalViewer

LARGE = 96 * 1024 * 1024
CHUNK = bytes(range(256)) * 256


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; some paths do what viewers do."""

    protocol_version = "HTTP/1.1"
    let_go: ClassVar[threading.Event]

    def log_message(self, *_: object) -> None: ...

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        route = self.path.partition("?")[0].rpartition("/")[2]
        if route == "large":
            self.send_large()
            return
        if route == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
            return
        if route == "waits":
            self.let_go.wait(60)
        said = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body.decode("latin-1"),
        }
        data = b"" if route == "empty" else json.dumps(said).encode()
        self.send_response({"teapot": 418, "empty": 204, "moved": 307, "bad-gateway": 502}.get(route, 200))
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.send_header("Keep-Alive", "timeout=5")
        self.send_header("X-One", "1")
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        if route == "moved":
            self.send_header("Location", f"http://{self.headers['Host']}/api/there")
        if route == "kept":
            self.send_header("Cache-Control", "max-age=5")
        if route != "empty":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_large(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Disposition", 'attachment; filename="runs.zip"')
        if "chunked" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(LARGE))
        self.end_headers()
        for _ in range(LARGE // len(CHUNK)):
            if "chunked" in self.path:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK))
            else:
                self.wfile.write(CHUNK)
        if "chunked" in self.path:
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """The address of a server that says what it was asked."""
    Echo.let_go = threading.Event()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, name="echo", daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalViewer]:
    with LocalViewer(tmp_path_factory.mktemp("viewer")) as viewer:
        yield viewer


def client_of(local_viewer: str, state_dir: Path, **more: Any) -> FlaskClient:
    settings = Settings(state_dir=str(state_dir), frontend="off", local_viewer=local_viewer, **more)
    return create_app(settings).test_client()


@pytest.fixture
def client(echo: str, tmp_path: Path) -> FlaskClient:
    return client_of(echo, tmp_path / "state")


def asked(answer: TestResponse) -> dict[str, Any]:
    """What arrived at the viewer."""
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json
    said["header"] = dict(said["headers"])
    return said


# --- the real viewer, behind the real server


@pytest.fixture(scope="module")
def server(viewer: LocalViewer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), flags=["--local-viewer", viewer.url]) as server:
        yield server


@pytest.mark.e2e
def test_its_runs_are_here(server: ServerProcess, viewer: LocalViewer) -> None:
    runs = server.get("/api/runs").json()
    assert len(runs) == viewer.runs > 0
    run_id = runs[0]["id"]
    detail = server.get(f"/api/runs/{run_id}")
    assert detail.status_code == 200
    assert server.get("/api/config").json()["storage"] == str(viewer.storage)
    for path in ("paths?include_stats=true", "storage/stats", "system/monitor", "gpu/telemetry/config"):
        assert server.get(f"/api/{path}").status_code == 200, path
    assert server.get(f"/api/runs/{run_id}/metrics_step").json()["rows"]
    unusable = server.get(f"/api/runs/{run_id}/metrics_step", downsample=7)
    assert unusable.json()["detail"][0]["loc"] == ["query", "downsample"], "the query string arrives"


@pytest.mark.e2e
def test_a_body_arrives(server: ServerProcess, viewer: LocalViewer) -> None:
    run_id = server.get("/api/runs").json()[0]["id"]
    moved = server.post("/api/runs/soft-delete", {"run_ids": [run_id]})
    assert moved.status_code == 200, moved.text
    assert len(server.get("/api/runs").json()) == viewer.runs - 1
    restored = server.post("/api/recycle-bin/restore", {"run_ids": [run_id]})
    assert restored.status_code == 200, restored.text
    assert len(server.get("/api/runs").json()) == viewer.runs


@pytest.mark.e2e
def test_its_errors_are_its_own(server: ServerProcess) -> None:
    unprocessable = server.post("/api/config/dismissed-alerts/dismiss", {})
    assert unprocessable.status_code == 422
    assert unprocessable.json()["detail"][0]["loc"] == ["body", "alert_id"]
    assert "code" not in unprocessable.json(), "the viewer's answer, not ours"


@pytest.mark.e2e
def test_remote_and_health_stay_ours(server: ServerProcess) -> None:
    assert server.get("/api/health").json()["server"] == {"name": "runicorn-remote", "version": __version__}
    assert server.get("/api/remote/status").json()["connection_count"] == 0
    for path in ("/api/remote/nothing", "/api/remote/", "/api/remote", "/api/health/x"):
        answer = server.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), path


@pytest.mark.e2e
def test_it_may_go_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "viewer").mkdir()
    with (
        LocalViewer(tmp_path / "viewer") as viewer,
        ServerProcess(tmp_path, flags=["--local-viewer", viewer.url]) as server,
    ):
        assert len(server.get("/api/runs").json()) == viewer.runs
        viewer.stop()
        answer = server.get("/api/runs")
        assert (answer.status_code, answer.json()["code"]) == (502, "BAD_GATEWAY")
        assert "local viewer does not answer" in answer.json()["detail"]
        assert server.get("/api/health").status_code == 200
        assert server.get("/api/remote/viewer/sessions").json() == {"sessions": []}
        viewer.start()
        assert len(server.get("/api/runs").json()) == viewer.runs
        assert server.stop() == 0
        assert "Traceback" not in server.output()


# --- what passes


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_method_query_and_body(client: FlaskClient, method: str) -> None:
    body = None if method in ("GET", "DELETE") else {"name": "ä"}
    said = asked(client.open("/api/runs/x?a=1&b=%26&a=2&empty=", method=method, json=body))
    assert (said["method"], said["path"]) == (method, "/api/runs/x?a=1&b=%26&a=2&empty=")
    if body:
        assert json.loads(said["body"]) == body
        assert said["header"]["content-type"] == "application/json"
    else:
        assert said["body"] == ""


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("/api/projects/%E8%A7%86%E8%A7%89/names", "/api/projects/%E8%A7%86%E8%A7%89/names"),
        ("/api/projects/100%25/names", "/api/projects/100%25/names"),
        ("/api/projects/a%2520b/names", "/api/projects/a%2520b/names"),
        ("/api/projects/a%20b/n", "/api/projects/a%20b/n"),
        ("/api/projects/a%3Fb%23c/n", "/api/projects/a%3Fb%23c/n"),
        ("/api/paths?path=%E8%A7%86%2F1&x=a+b", "/api/paths?path=%E8%A7%86%2F1&x=a+b"),
        ("/api/runs/", "/api/runs/"),
        ("/api/remoted", "/api/remoted"),
        ("/api/healthy/x", "/api/healthy/x"),
    ],
)
def test_names_arrive_as_they_were_sent(client: FlaskClient, path: str, arrives: str) -> None:
    assert asked(client.get(path))["path"] == arrives


@pytest.mark.parametrize(("route", "status"), [("teapot", 418), ("empty", 204), ("moved", 307)])
def test_status_and_headers_come_back(client: FlaskClient, route: str, status: int) -> None:
    answer = client.get(f"/api/{route}")
    assert answer.status_code == status
    assert answer.headers["X-One"] == "1"
    assert answer.headers.getlist("Set-Cookie") == ["a=1", "b=2"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if route == "moved":
        assert answer.headers["Location"] == "http://localhost/api/there", "a redirect leads here"


def test_caching_is_the_viewers_choice(client: FlaskClient) -> None:
    assert client.get("/api/kept").headers["Cache-Control"] == "max-age=5"
    assert client.get("/api/other").headers["Cache-Control"] == "no-store"


def test_head(client: FlaskClient) -> None:
    answer = client.head("/api/runs")
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


def test_what_is_for_one_hop_does_not_pass(client: FlaskClient) -> None:
    answer = client.get(
        "/api/runs", headers={"Connection": "Upgrade", "Upgrade": "h2c", "TE": "trailers", "X-Mine": "yes"}
    )
    said = asked(answer)
    assert not {"upgrade", "te", "keep-alive"} & set(said["header"])
    assert said["header"]["connection"] == "close"
    assert said["header"]["x-mine"] == "yes"
    assert not {"connection", "keep-alive"} & {name.lower() for name, _ in answer.headers}


def test_what_proves_who_somebody_is_does_not_pass(client: FlaskClient) -> None:
    client.set_cookie("token", "canary")
    said = asked(client.get("/api/runs", headers={"Authorization": "Bearer canary", "Accept": "text/plain"}))
    assert "canary" not in json.dumps(said)
    assert said["header"]["accept"] == "text/plain"


# --- what does not


def test_only_json_passes(client: FlaskClient) -> None:
    answer = client.post("/api/import/archive", data=b"x", content_type="multipart/form-data")
    assert outcome(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
    long = client.post("/api/runs/export", data=b" " * (1024 * 1024 + 1), content_type="application/json")
    assert outcome(long) == (413, "REQUEST_ENTITY_TOO_LARGE")


def test_no_method_of_our_own_routes_passes(client: FlaskClient) -> None:
    for rule, methods in ROUTES.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = client.open(re.sub("<.*>", "x", rule), method=method, json={})
            assert outcome(answer) == (405, "METHOD_NOT_ALLOWED"), (method, rule)
            assert methods <= set(answer.headers["Allow"].split(", "))


def test_unknown_routes_below_ours_do_not_pass(client: FlaskClient) -> None:
    for path in (
        "/api/remote/x",
        "/api/remote/viewer",
        "/api/remote",
        "/api/remote/",
        "/api/health/x",
        "/api",
    ):
        for method in ("GET", "POST"):
            assert outcome(client.open(path, method=method)) == (404, "NOT_FOUND"), path


def test_the_page_is_not_the_viewers(client: FlaskClient) -> None:
    assert b"<h1>runicorn-remote" in client.get("/").data
    assert outcome(client.get("/runs")) == (404, "NOT_FOUND")


# --- what is no viewer


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = client_of(f"http://127.0.0.1:{taken.getsockname()[1]}", tmp_path)
        for method in ("GET", "POST"):
            answer = client.open("/api/runs", method=method)
            assert outcome(answer) == (502, "BAD_GATEWAY")
            assert "is it running" in answer.json["detail"]
    assert outcome(client_of("http://viewer.invalid", tmp_path).get("/api/runs")) == (502, "BAD_GATEWAY")


# werkzeug's proxy leaves it to the garbage collector to close these.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("says", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_something_else_there(tmp_path: Path, says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            talking, _ = listener.accept()
            with talking:
                talking.recv(65536)
                talking.sendall(says)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        client = client_of(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
        answer = client.get("/api/runs")
        thread.join(10)
    assert outcome(answer) == (502, "BAD_GATEWAY")
    assert "local" in answer.json["detail"]


@pytest.mark.e2e
def test_its_own_address_is_noticed(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    flags = ["--port", port, "--local-viewer", f"http://localhost:{port}"]
    with ServerProcess(tmp_path, flags=flags) as server:
        answer = server.get("/api/runs")
        assert (answer.status_code, answer.json()["code"]) == (502, "BAD_GATEWAY")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:23301",
        "http://",
        "http://:23301",
        "ftp://127.0.0.1",
        "http://127.0.0.1:x",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:0",
        "http://127.0.0.1:23301/api",
        "http://127.0.0.1:23301?x",
        "http://me:secret@127.0.0.1:23301",
        "",
    ],
)
def test_an_address_that_is_none_is_an_error_at_start(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^local_viewer: "):
        Settings(local_viewer=address)


def test_addresses() -> None:
    for address in ("http://127.0.0.1:23301", "https://viewer.lab/", "http://[::1]:23301"):
        assert Settings(local_viewer=address).local_viewer == address


# --- load


@pytest.fixture
def behind(echo: str, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, flags=["--local-viewer", echo]) as server:
        yield server


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_a_large_download(behind: ServerProcess, how: str) -> None:
    before = peak_memory(behind)
    with requests.Session() as session:
        session.trust_env = False
        with session.get(f"{behind.url}/api/large?{how}", stream=True, timeout=60) as answer:
            assert answer.headers["Content-Disposition"] == 'attachment; filename="runs.zip"'
            assert answer.headers.get("Content-Length") == (str(LARGE) if how == "length" else None)
            received = 0
            for part in answer.iter_content(len(CHUNK)):
                assert part == CHUNK[: len(part)]
                received += len(part)
    assert received == LARGE
    assert peak_memory(behind) - before < LARGE // 2, "it was not held in memory"


@pytest.mark.e2e
def test_a_download_that_somebody_breaks_off(behind: ServerProcess) -> None:
    for _ in range(20):
        with requests.Session() as session:
            session.trust_env = False
            with session.get(f"{behind.url}/api/large", stream=True, timeout=60) as answer:
                assert answer.raw.read(1000)
    assert behind.get("/api/runs").status_code == 200
    assert behind.stop() == 0


@pytest.mark.e2e
def test_a_download_that_the_viewer_breaks_off(behind: ServerProcess) -> None:
    with pytest.raises(requests.RequestException):
        behind.get("/api/cut", timeout=20)
    assert behind.get("/api/runs").status_code == 200


def test_a_viewer_that_hangs_leaves_threads_for_the_rest(client: FlaskClient, tmp_path: Path) -> None:
    services: Services = client.application.extensions["runicorn_remote"]

    def wait() -> None:
        # Our own looking below may have had the last place for a moment.
        while client.application.test_client().get("/api/waits").status_code == 503:
            pass

    waiting = [threading.Thread(target=wait, daemon=True) for _ in range(services.settings.slow_requests)]
    for thread in waiting:
        thread.start()
    try:
        poll = threading.Event()
        for _ in range(500):
            answer = client.get("/api/runs")
            if answer.status_code == 503:
                break
            poll.wait(0.02)
        assert outcome(answer) == (503, "TOO_MANY_SLOW_REQUESTS")
        assert client.get("/api/remote/status").status_code == 200
    finally:
        Echo.let_go.set()
        for thread in waiting:
            thread.join(20)
    assert client.get("/api/runs").status_code == 200


def peak_memory(server: ServerProcess) -> int:
    """The most memory the server ever had, in bytes. Linux only."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError("/proc/PID/status has no line 'VmHWM:'")
