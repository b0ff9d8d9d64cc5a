"""`/api/health`: asked first by every client, so it depends on nothing."""

from __future__ import annotations

from importlib import metadata

import pytest
from flask.testing import FlaskClient

from runicorn_remote._version import __version__
from runicorn_remote.api import health


def test_shape(client: FlaskClient) -> None:
    answer = client.get("/api/health")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    body = answer.get_json()
    assert body["status"] == "ok"
    assert body["server"] == {"name": "runicorn-remote", "version": __version__}
    assert body["version"] == metadata.version("runicorn")


def test_the_version_without_a_runicorn_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing_installed)
    assert health.runicorn_version.__wrapped__() == "0.7.2"
