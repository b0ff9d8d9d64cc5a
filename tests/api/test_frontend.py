"""Runicorn's web page beside the API: files, pages of the application, and what is neither."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from runicorn_remote.app import create_app
from runicorn_remote.services.web_ui import find_web_ui
from runicorn_remote.settings import Settings, SettingsError
from tests.api.user import outcome
from tests.e2e.webui import webui_060
from tests.hosts.server import ServerProcess

NAVIGATION = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FOREVER = "public, max-age=31536000, immutable"
FILES = {
    "index.html": b"<!doctype html><title>the page</title>",
    "logo.jpg": b"\xff\xd8\xff",
    "favicon.ico": b"\0\0\1\0",
    "assets/index-CwA3IHQ5.js": b"export default 1;",
    "assets/C0WJH-50-C0WJH-50.css": b"body{}",
    "assets/picture.svg": b"<svg/>",
    "assets/plain.js": b"1;",
    "assets/deep/er-12345678.js": b"2;",
}


class ReadingClient(FlaskClient):
    """Reads each answer to its end, so that the file behind it is closed."""

    def open(self, *args: Any, **more: Any) -> TestResponse:
        return super().open(*args, buffered=True, **more)


def client_of(frontend: str, state_dir: Path) -> FlaskClient:
    app = create_app(Settings(state_dir=str(state_dir), frontend=frontend))
    app.test_client_class = ReadingClient
    return app.test_client()


def navigate(client: FlaskClient, path: str) -> TestResponse:
    """What a browser's address bar asks."""
    return client.get(path, headers=NAVIGATION)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "webui"
    for name, content in FILES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "secret.txt").write_text("canary")
    (tmp_path / "webui-beside").mkdir()
    (tmp_path / "webui-beside" / "secret.txt").write_text("canary")
    return directory


@pytest.fixture
def page(directory: Path, tmp_path: Path) -> FlaskClient:
    return client_of(str(directory), tmp_path / "state")


# --- where it is


def test_auto_is_the_page_of_the_installed_runicorn(tmp_path: Path) -> None:
    client = client_of("auto", tmp_path)
    [package] = importlib.util.find_spec("runicorn").submodule_search_locations
    installed = Path(package) / "webui"
    assert client.get("/").data == (installed / "index.html").read_bytes()
    files = [file for file in installed.rglob("*") if file.is_file()]
    assert len(files) > 10
    for file in files:
        answer = client.get("/" + file.relative_to(installed).as_posix())
        assert answer.status_code == 200
        assert answer.data == file.read_bytes()
        hashed = file.parent.name == "assets"
        assert answer.headers["Cache-Control"] == (FOREVER if hashed else "no-cache"), file


def test_auto_without_a_runicorn_is_the_plain_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert b"<h1>runicorn-remote" in client_of("auto", tmp_path).get("/").data


def test_the_page_of_0_6_0_as_a_directory(tmp_path: Path) -> None:
    webui = webui_060()
    client = client_of(str(webui), tmp_path)
    index = client.get("/")
    assert index.data == (webui / "index.html").read_bytes()
    for file in (webui / "assets").iterdir():
        answer = client.get(f"/assets/{file.name}")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, FOREVER), file
        assert f"/assets/{file.name}".encode() in index.data, "the build names every file in its page"
    assert navigate(client, "/remote").data == index.data


def test_off_is_a_plain_page_that_leads_on(client: FlaskClient) -> None:
    answer = navigate(client, "/")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    for link in ("/docs", "/openapi.json", "/api/health", "/static/runicorn-remote-client.js"):
        assert f'href="{link}"' in answer.text
    assert outcome(navigate(client, "/remote")) == (404, "NOT_FOUND")
    assert outcome(client.get("/assets/index-CwA3IHQ5.js")) == (404, "NOT_FOUND")


def test_a_directory_without_a_page_is_an_error(tmp_path: Path) -> None:
    for unusable in (tmp_path, tmp_path / "missing", Path(__file__), tmp_path / ("x" * 300)):
        with pytest.raises(SettingsError, match=r"^frontend: "):
            find_web_ui(str(unusable))
    (tmp_path / "index.html").mkdir()
    with pytest.raises(SettingsError, match="has no index"):
        client_of(str(tmp_path), tmp_path)


def test_a_home_directory_is_expanded(directory: Path, private_home: Path) -> None:
    (private_home / "page").symlink_to(directory)
    assert find_web_ui("~/page") == directory.resolve()


def test_an_installation_of_links_is_served_from_where_they_lead(directory: Path, tmp_path: Path) -> None:
    linked = tmp_path / "site-packages"
    for name in FILES:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(directory / name)
    client = client_of(str(linked), tmp_path / "state")
    for name, content in FILES.items():
        assert client.get(f"/{name}").data == content


# --- files


@pytest.mark.parametrize(
    ("name", "mimetype"),
    [
        ("index.html", "text/html"),
        ("logo.jpg", "image/jpeg"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("assets/index-CwA3IHQ5.js", "text/javascript"),
        ("assets/C0WJH-50-C0WJH-50.css", "text/css"),
        ("assets/picture.svg", "image/svg+xml"),
    ],
)
def test_content_types(page: FlaskClient, name: str, mimetype: str) -> None:
    answer = page.get(f"/{name}")
    # Never sniffed: the type has to be right.
    assert (answer.mimetype, answer.headers["X-Content-Type-Options"]) == (mimetype, "nosniff")
    assert answer.data == FILES[name]


def test_what_is_named_by_its_content_is_kept_for_ever(page: FlaskClient) -> None:
    kept = {name for name in FILES if page.get(f"/{name}").headers["Cache-Control"] == FOREVER}
    assert kept == {
        "assets/index-CwA3IHQ5.js",
        "assets/C0WJH-50-C0WJH-50.css",
        "assets/deep/er-12345678.js",
    }
    for path in ("/", "/index.html", "/logo.jpg", "/assets/plain.js"):
        assert page.get(path).headers["Cache-Control"] == "no-cache"
    assert navigate(page, "/remote").headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/remote", "/logo.jpg", "/assets/index-CwA3IHQ5.js"])
def test_what_has_not_changed_is_not_sent_again(page: FlaskClient, path: str) -> None:
    first = navigate(page, path)
    again = page.get(path, headers={**NAVIGATION, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    changed = page.get(path, headers={**NAVIGATION, "If-None-Match": '"another"'})
    assert (changed.status_code, changed.data) == (200, first.data)


def test_a_new_release_is_seen(page: FlaskClient, directory: Path) -> None:
    old = page.get("/")
    (directory / "index.html").write_bytes(b"<!doctype html><title>the next page</title>")
    new = page.get("/", headers={"If-None-Match": old.headers["ETag"]})
    assert (new.status_code, new.data) == (200, b"<!doctype html><title>the next page</title>")


@pytest.mark.parametrize("path", ["/", "/remote", "/logo.jpg"])
def test_head(page: FlaskClient, path: str) -> None:
    body = navigate(page, path)
    head = page.head(path, headers=NAVIGATION)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Cache-Control", "ETag"):
        assert head.headers[name] == body.headers[name]


def test_a_part_of_a_file(page: FlaskClient) -> None:
    answer = page.get("/assets/index-CwA3IHQ5.js", headers={"Range": "bytes=0-5"})
    assert (answer.status_code, answer.data) == (206, b"export")


# --- pages of the application


@pytest.mark.parametrize(
    "path",
    ["/remote", "/runs/20260101_abc", "/assets", "/assets/", "/assets/abc", "/performance", "/diagnostics"],
)
def test_a_page_of_the_application_is_its_index(page: FlaskClient, path: str) -> None:
    answer = navigate(page, path)
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert answer.data == FILES["index.html"]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", None])
def test_what_is_no_file_is_not_found_unless_a_browser_navigates_there(
    page: FlaskClient, accept: str | None
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    for path in ("/assets/gone-12345678.js", "/assets", "/remote", "/x.css"):
        answer = page.get(path, headers=headers)
        assert outcome(answer) == (404, "NOT_FOUND"), path
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/api", "/api/", "/api/nothing", "/api/remote", "/api/remote/nothing", "/api/runs/x"],
)
def test_below_api_there_are_no_pages(page: FlaskClient, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = page.open(path, method=method, headers=NAVIGATION)
        assert outcome(answer) == (404, "NOT_FOUND"), method
    assert page.head(path, headers=NAVIGATION).status_code == 404


def test_only_get_and_head_find_pages_and_files(page: FlaskClient) -> None:
    for path in ("/remote", "/logo.jpg", "/assets/index-CwA3IHQ5.js"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = page.open(path, method=method, headers=NAVIGATION)
            assert outcome(answer) == (404, "NOT_FOUND")
    answer = page.post("/", headers=NAVIGATION)
    assert outcome(answer) == (405, "METHOD_NOT_ALLOWED")
    assert {"GET", "HEAD"} <= set(answer.headers["Allow"].split(", "))


def test_a_wrong_method_of_the_api_is_still_a_405(page: FlaskClient) -> None:
    answer = navigate(page, "/api/remote/connect")
    assert outcome(answer) == (405, "METHOD_NOT_ALLOWED")
    assert "POST" in answer.headers["Allow"]
    answer = page.delete("/api/health")
    assert outcome(answer) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in answer.headers["Allow"]


def test_a_page_that_is_removed_while_the_server_runs(page: FlaskClient, directory: Path) -> None:
    (directory / "index.html").unlink()
    assert outcome(navigate(page, "/remote")) == (404, "NOT_FOUND")
    assert b"<h1>runicorn-remote" in page.get("/").data
    assert page.get("/logo.jpg").status_code == 200


# --- what lies outside

OUTSIDE = [
    "/../secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/assets/../../secret.txt",
    "/assets/..%2f..%2fsecret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/assets/..%5c..%5csecret.txt",
    "/../webui-beside/secret.txt",
    "/%2e%2e/webui-beside/secret.txt",
    "/./../secret.txt",
    "/%00/../secret.txt",
    "/link.txt",
    "/linked/secret.txt",
    "/%252e%252e/secret.txt",
]


@pytest.fixture
def traps(directory: Path, tmp_path: Path) -> None:
    (directory / "link.txt").symlink_to(tmp_path / "secret.txt")
    (directory / "linked").symlink_to(tmp_path)
    (directory / "loop.txt").symlink_to("loop.txt")


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_is_served(page: FlaskClient, path: str) -> None:
    answer = page.get(path, follow_redirects=True)
    assert outcome(answer) == (404, "NOT_FOUND")
    answer = navigate(page, path)
    assert "canary" not in answer.text


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize(
    "path", ["/" + "x" * 5000, "/loop.txt", "/%00", "/a%00.js", "/%ff%fe", "/logo.jpg/x", "/.."]
)
def test_names_that_cannot_be_files(page: FlaskClient, path: str) -> None:
    assert outcome(page.get(path)) == (404, "NOT_FOUND")
    assert navigate(page, path).data == FILES["index.html"]


@pytest.fixture
def live(directory: Path, tmp_path: Path, traps: None) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, flags=["--frontend", str(directory)]) as server:
        yield server


@pytest.mark.e2e
def test_over_the_wire(live: ServerProcess, directory: Path) -> None:
    """What a client library would tidy up before it is sent reaches the real server as it is."""
    with requests.Session() as session:
        session.trust_env = False
        for path in (*OUTSIDE, "//secret.txt", "//api/nothing", "///etc/passwd"):
            # requests would resolve the dots of a path.
            request = session.prepare_request(requests.Request("GET", live.url))
            request.url = live.url + path
            answer = session.send(request, timeout=30)
            assert answer.status_code == 404, path
            assert answer.json()["detail"]
    script = live.get("/assets/index-CwA3IHQ5.js")
    assert script.content == FILES["assets/index-CwA3IHQ5.js"]
    assert script.headers["Cache-Control"] == FOREVER
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert live.request("GET", "/remote", headers=NAVIGATION).content == FILES["index.html"]
    assert live.stop() == 0
    assert "Traceback" not in live.output()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_an_unreadable_directory(directory: Path, tmp_path: Path) -> None:
    directory.chmod(0)
    try:
        with pytest.raises(SettingsError, match="cannot be read"):
            find_web_ui(str(directory))
    finally:
        directory.chmod(0o700)
