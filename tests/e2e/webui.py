"""The web pages of runicorn releases, for tests that serve them."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.test_journey import runicorn_060


def webui_060() -> Path:
    """The page of the first runicorn that has a Remote page."""
    [webui] = runicorn_060().glob("lib/python*/site-packages/runicorn/webui")
    return webui
