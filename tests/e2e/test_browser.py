"""Runicorn's own web page, unchanged, through its whole journey in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from runicorn_remote.demo import sample_storage
from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.e2e.browser import WebPage, chromium, web_page
from tests.e2e.user import ENVIRONMENT, RemoteAccount, is_refused
from tests.e2e.webui import webui_060
from tests.hosts import processes
from tests.hosts.server import ServerProcess, clean_environment, fetch
from tests.hosts.sshd import SshServer
from tests.hosts.viewer import LocalViewer
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

OLD, NEW = "0.6.0", "0.7.2"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(params=[NEW, OLD])
def release(request: pytest.FixtureRequest) -> str:
    """Whose web page it is."""
    return str(request.param)


@pytest.fixture
def server(tmp_path: Path, release: str) -> Iterator[ServerProcess]:
    frontend = "auto" if release == NEW else str(webui_060())
    with ServerProcess(tmp_path, flags=["--frontend", frontend]) as server:
        yield server


@pytest.fixture
def runs(account: RemoteAccount) -> int:
    """How many runs there are in the account's storage."""
    storage = account.home / "runicorn_data"
    storage.mkdir()
    return sample_storage.create(storage, {**clean_environment(), "HOME": str(account.home)})


@pytest.mark.sshd
@pytest.mark.viewer
def test_with_a_key(
    browser: Browser, server: ServerProcess, sshd: SshServer, account: RemoteAccount, runs: int, release: str
) -> None:
    interpreter = f"{account.home}/.virtualenvs/{ENVIRONMENT}/bin/python"
    [host_key] = sshd.host_keys.values()
    with web_page(browser, server.url, f"key-{release}") as web:
        # A server is added.
        web.open()
        web.go_to("Remote")
        web.sees("No saved servers")
        form = web.begin_to_add("gpu box", sshd.host, sshd.port, sshd.username)
        form.get_by_text("Private Key", exact=True).click()
        form.get_by_label("Private Key Path").fill(str(sshd.client_key))
        web.connect()
        question = web.host_key_question()
        for said in ("not in your known hosts", f"{sshd.username}@{sshd.host}:{sshd.port}", host_key):
            expect(question).to_contain_text(said)
        web.trust()

        # An environment is chosen, and the connection saved.
        expect(web.environment(interpreter)).to_contain_text(f"Runicorn {metadata.version('runicorn')}")
        expect(web.environment(interpreter)).to_contain_text("Default")
        expect(web.environment("/usr/bin/python3")).to_contain_text("Not installed")
        web.choose_environment(interpreter)
        web.sees("SSH Connected Successfully")
        expect(web.page.get_by_label("Confirm Remote Storage Root")).to_have_value(
            f"{account.home}/runicorn_data"
        )
        if release == NEW:
            web.button("Start Detection").click()
            web.sees(re.compile(rf"\b{runs} runs?\b"))
        web.save_connection("Torch")

        # Its viewer runs, and opens.
        web.unfold("gpu box")
        if release == OLD:
            web.quick_start()
        address = web.running_viewer()
        [session] = server.get("/api/remote/viewer/sessions").json()["sessions"]
        assert address == session["url"]
        web.sees(str(session["remotePid"]))
        web.sees("Remote Viewer is running and accessible")
        with web.opened_viewer() as viewer:
            expect(viewer).to_have_url(f"{address}/")
            expect(viewer.get_by_text(f"Total Runs: {runs}")).to_be_visible()
            expect(viewer.get_by_role("row").filter(has_text="vision/vit")).to_be_visible()

        # The host's key is listed, and removed.
        with web.known_hosts() as drawer:
            row = drawer.get_by_role("row").filter(has_text=f"[{sshd.host}]:{sshd.port}")
            expect(row).to_contain_text("ssh-ed25519")
            web.button("Remove", row).click()
            web.confirm()
            expect(drawer.get_by_text("No known hosts yet")).to_be_visible()

        # It is stopped.
        web.button("Stop").click()
        web.no_viewer()
        assert not processes.is_alive(session["remotePid"])
        assert is_refused(session["localPort"])

        # After a reload the saved connection is there, and starts; the key is unknown again.
        web.page.reload()
        web.unfold("gpu box")
        web.quick_start()
        expect(web.host_key_question()).to_contain_text("not in your known hosts")
        web.trust()
        address = web.running_viewer()
        [session] = server.get("/api/remote/viewer/sessions").json()["sessions"]
        if release == NEW:
            with web.opened_viewer() as viewer:
                viewer.goto(f"{address}/runs/{failed_run(address)}")
                viewer.get_by_text("Live Logs", exact=True).first.click()
                # They are a WebSocket, through the same tunnel.
                expect(viewer.get_by_text("FloatingPointError: the loss is not a number")).to_be_visible()
            web.button("Stop").click()
        else:
            web.button("Disconnect").click()
            web.button("OK", web.page.get_by_role("dialog")).click()
        web.no_viewer()
        assert not processes.is_alive(session["remotePid"])
        until(lambda: server.get("/api/remote/sessions").json() == {"sessions": []}, 10, "it disconnects")
    assert server.stop() == 0
    assert "Traceback" not in server.output()


@pytest.mark.viewer
def test_with_a_password(browser: Browser, server: ServerProcess, tmp_path: Path, release: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    account = RemoteAccount(home)
    interpreter = f"{home}/.virtualenvs/{ENVIRONMENT}/bin/python"
    with EmbeddedHost(home) as host, web_page(browser, server.url, f"password-{release}") as web:
        # The page is entered at its own address, which is no file.
        web.open("/remote")
        form = web.begin_to_add("cluster", host.host, host.port, host.username)
        form.get_by_role("textbox", name="Password").fill(host.password)
        form.get_by_text("Also save password").click()
        web.connect()
        expect(web.host_key_question()).to_contain_text(host.fingerprint)
        web.trust()
        web.choose_environment(interpreter)
        web.save_connection("Torch")
        web.unfold("cluster")
        if release == OLD:
            web.quick_start()
        web.running_viewer()
        web.button("Stop").click()
        web.no_viewer()
        assert host.password not in server.get("/api/remote/connections/saved").text

        # After a reload the page knows the password no more; the server does, if the page asks it.
        host.stop()
        host.renew_host_key()
        host.start()
        web.page.reload()
        web.unfold("cluster")
        with web.page.expect_request("**/api/remote/viewer/start") as start:
            web.quick_start()
            if release == OLD:
                type_password(web, host.password)
        assert ("password" in start.value.post_data_json) == (release == OLD)
        question = web.host_key_question()
        expect(question).to_contain_text("changed")
        expect(question).to_contain_text(host.fingerprint)
        web.trust()
        web.running_viewer()
        assert len(account.viewer_processes()) == 1
        web.button("Stop").click()
        web.no_viewer()
        assert account.viewer_processes() == set()
    assert host.password not in server.output()


def test_every_page_is_there(browser: Browser, server: ServerProcess, release: str) -> None:
    # What only a local storage has; these pages go on without it.
    expected = re.compile(r"status of 404 .*/api/(storage/stats|system/monitor|diagnostics/sources)$")
    with web_page(browser, server.url, f"pages-{release}", expected) as web:
        web.open()
        web.sees("API OK")
        web.sees("No paths yet")
        web.go_to("Remote")
        web.sees_heading("Remote Sync (SSH)")
        assert web.complaints == [], "the start page and the Remote page load without any error"

        web.go_to("Assets")
        web.sees(
            "Explore reproducible assets (code/config/dataset/pretrained/outputs) across projects and runs"
        )
        web.go_to("Performance Monitor")
        web.sees("GPU telemetry not available")
        web.go_to("Experiments")
        web.button("setting").click()
        settings = web.page.get_by_role("dialog")
        for tab in settings.get_by_role("tab").all():
            tab.click()
            expect(settings.get_by_role("tabpanel", name=tab.inner_text())).to_be_visible()
        expect(settings.get_by_text(metadata.version("runicorn"), exact=True)).to_be_visible()

        # A reload finds each page by its own address.
        for path, text in (
            ("/assets", "Explore reproducible assets"),
            ("/performance", "GPU telemetry not available"),
            ("/remote", "Connect to remote server via SSH"),
        ):
            web.open(path)
            web.sees(re.compile(text))


def test_a_hint_stays_away(browser: Browser, server: ServerProcess, release: str) -> None:
    with web_page(browser, server.url, f"hint-{release}") as web:
        web.open("/remote")
        hint = web.page.get_by_role("alert").filter(has_text="VSCode Remote-like architecture")
        with web.page.expect_response("**/api/config/dismissed-alerts/dismiss"):
            hint.get_by_text("Don't show again").click()
            hint.get_by_role("button").click()
        expect(hint).to_have_count(0)
        web.page.reload()
        web.sees("No saved servers")
        expect(hint).to_have_count(0)
    assert server.get("/api/config/dismissed-alerts").json() == {"dismissed_alerts": ["remote.intro"]}


@pytest.mark.parametrize("release", [NEW])
def test_a_local_viewer_at_the_same_address(browser: Browser, tmp_path: Path, release: str) -> None:
    (tmp_path / "viewer").mkdir()
    with (
        LocalViewer(tmp_path / "viewer") as viewer,
        ServerProcess(tmp_path, flags=["--local-viewer", viewer.url]) as server,
        web_page(browser, server.url, "local-viewer", re.compile(r"/logs/ws'")) as web,
    ):
        web.open()
        web.sees(f"Total Runs: {viewer.runs}")
        expect(web.page.get_by_role("row").filter(has_text="vision/vit")).to_be_visible()
        web.open(f"/runs/{failed_run(server.url)}")
        web.sees("best_metric_value:")
        web.go_to("Performance Monitor")
        web.sees("Overall CPU Usage")
        web.go_to("Remote")
        web.sees("No saved servers")
        assert server.get("/api/health").json()["server"]["name"] == "runicorn-remote"


def type_password(web: WebPage, password: str) -> None:
    asked = web.page.get_by_role("dialog").filter(has_text="Enter Password")
    asked.get_by_placeholder("Password").fill(password)
    web.button("Connect to Server", asked).click()


def failed_run(url: str) -> str:
    """The run of the sample storage that failed."""
    [run] = [run for run in fetch(f"{url}/api/runs").json() if run["status"] == "failed"]
    return str(run["id"])
