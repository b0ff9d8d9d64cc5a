"""A person at Runicorn's web page: what is clicked and what is read there, in a real browser.

Both releases of the page say the same words; where they differ in what they do, the test says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.e2e.user import skip_or_fail

SCREENSHOTS = Path(__file__).parent / "screenshots"
# Nothing here takes so long unless it hangs.
TIMEOUT = 30_000.0

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Debian's build, no downloads, no calls home.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The browser complains about every answer that is an error, and this question is one.
HOST_KEY_QUESTION = re.compile(r"status of 409 .*/api/remote/(connect|viewer/start)$")


@contextlib.contextmanager
def chromium(home: Path) -> Iterator[Browser]:
    """A browser with nothing of the user's; `home` is where it keeps its files."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        skip_or_fail("no chromium is installed (Debian: chromium)")
    with sync_playwright() as playwright:
        expect.set_options(timeout=TIMEOUT)
        browser = playwright.chromium.launch(
            executable_path=program, args=_FLAGS, env={**os.environ, "HOME": str(home)}
        )
        try:
            yield browser
        finally:
            browser.close()


class WebPage:
    """The page of the server at `url`, in a window of its own."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        context.set_default_timeout(TIMEOUT)
        context.on("console", self._note_console)
        context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        self.page: Page = context.new_page()

    def _note_console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} {message.location['url']}")

    def open(self, path: str = "/") -> None:
        self.page.goto(self.url + path)

    def go_to(self, entry: str) -> None:
        """By the menu."""
        self.page.get_by_role("banner").get_by_text(entry, exact=True).click()

    def sees(self, text: str | re.Pattern[str]) -> None:
        exact = isinstance(text, str)
        expect(self.page.get_by_text(text, exact=exact).first).to_be_visible()

    def button(self, name: str, inside: Locator | None = None) -> Locator:
        # The icon is a part of the name, so the whole of it is not compared.
        return (inside or self.page).get_by_role("button", name=name)

    def sees_heading(self, text: str) -> None:
        expect(self.page.get_by_role("heading").filter(has_text=text).first).to_be_visible()

    # --- adding a server

    def begin_to_add(self, name: str, host: str, port: int, username: str) -> Locator:
        """Fill in the first half of the form. -> the form."""
        self.button("Add Server").click()
        form = self.page.get_by_role("dialog")
        form.get_by_label("Configuration Name").fill(name)
        form.get_by_label("Remote Host").fill(host)
        form.get_by_label("SSH Port").fill(str(port))
        form.get_by_label("Username").fill(username)
        return form

    def connect(self) -> None:
        self.button("Connect to Server").click()

    def host_key_question(self) -> Locator:
        question = self.page.get_by_role("dialog").filter(has_text="Host Key Verification")
        expect(question).to_be_visible()
        return question

    def trust(self, button: str = "Trust and Continue") -> None:
        question = self.host_key_question()
        self.button(button, question).click()
        expect(question).to_be_hidden()

    def environment(self, path: Path | str) -> Locator:
        """The row of the environment whose interpreter is `path`."""
        row = self.page.get_by_role("dialog").get_by_role("listitem").filter(has_text=str(path))
        expect(row).to_be_visible()
        return row

    def choose_environment(self, path: Path | str) -> None:
        self.environment(path).click()
        self.button("Continue").click()

    def save_connection(self, name: str) -> None:
        self.page.get_by_label("Connection Name").fill(name)
        self.button("Save this connection").click()
        expect(self.page.get_by_role("dialog")).to_be_hidden()

    # --- using it

    def unfold(self, server: str) -> None:
        self.page.get_by_text(server, exact=True).click()

    def quick_start(self) -> None:
        self.button("Quick Start").click()

    def running_viewer(self) -> str:
        """Wait until a session's card says that it runs. -> the address the card shows."""
        self.sees("Running")
        expect(self.button("Open Viewer")).to_be_enabled()
        link = self.page.get_by_text(re.compile(r"^http://localhost:\d+$"))
        return link.inner_text()

    @contextlib.contextmanager
    def opened_viewer(self) -> Iterator[Page]:
        with self.page.expect_popup() as popup:
            self.button("Open Viewer").click()
        yield popup.value
        popup.value.close()

    def no_viewer(self) -> None:
        self.sees("No active sessions")
        expect(self.button("Open Viewer")).to_have_count(0)

    # --- known hosts

    @contextlib.contextmanager
    def known_hosts(self) -> Iterator[Locator]:
        self.button("Advanced / Security").click()
        drawer = self.page.get_by_role("dialog").filter(has_text="Known Hosts")
        expect(drawer).to_be_visible()
        yield drawer
        drawer.get_by_role("button", name="Close").click()
        expect(drawer).to_be_hidden()

    def confirm(self) -> None:
        """A small question beside the button that was clicked."""
        self.page.get_by_role("tooltip").get_by_role("button", name=re.compile("^(OK|Yes|Delete)$")).click()

    # --- at the end

    def assert_nothing_went_wrong(self, but: re.Pattern[str]) -> None:
        assert [text for text in self.complaints if not but.search(text)] == []


@contextlib.contextmanager
def web_page(
    browser: Browser, url: str, name: str, expected: re.Pattern[str] = HOST_KEY_QUESTION
) -> Iterator[WebPage]:
    """A window; if the test fails, a picture of it is kept in `SCREENSHOTS` under `name`.

    An error on the browser's console that `expected` does not find fails the test.
    """
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 1100})
    web = WebPage(context, url)
    try:
        yield web
        web.assert_nothing_went_wrong(but=expected)
    except BaseException:
        SCREENSHOTS.mkdir(exist_ok=True)
        for number, page in enumerate(context.pages):
            # Written here: Playwright would start a thread for it.
            (SCREENSHOTS / f"{name}-{number}.png").write_bytes(page.screenshot(full_page=True))
        raise
    finally:
        context.close()
