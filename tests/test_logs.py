"""The log: secrets cut out, one record a line in JSON, the id of the request where there is one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from runicorn_remote.logs import configure_logging, request_id
from runicorn_remote.redaction import redactor

SECRET = 'canary-"of"-the\\log-é'


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    others = {name: logging.getLogger(name).level for name in ("paramiko", "fabric", "invoke")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    for name, other in others.items():
        logging.getLogger(name).setLevel(other)


def logged(capsys: pytest.CaptureFixture[str], form: str, number: str | None = None) -> str:
    """What a message with a traceback and a secret in every place of it looks like."""
    configure_logging("INFO", form)
    redactor.register([SECRET])
    token = request_id.set(number)
    try:
        raise ValueError(f"not {SECRET}")
    except ValueError:
        logging.getLogger("a.b").exception("tried %s and %r\nFAKE line\x1b[2J", SECRET, [SECRET])
    finally:
        request_id.reset(token)
    text = capsys.readouterr().err
    for spelling in (SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], "canary-"):
        assert spelling not in text
    return text


def test_json_is_one_object_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    text = logged(capsys, "json", "r-1")
    assert text.count("\n") == 1
    entry: dict[str, Any] = json.loads(text)
    assert (entry["level"], entry["logger"], entry["request_id"]) == ("ERROR", "a.b", "r-1")
    assert entry["message"].startswith("tried [redacted] and ['[redacted]']\nFAKE")
    assert entry["exception"].startswith("Traceback")
    assert entry["time"].endswith("Z")
    assert "\x1b" not in text
    assert "request_id" not in json.loads(logged(capsys, "json"))


def test_text_has_the_id_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ERROR a.b [r-1]: tried [redacted]" in logged(capsys, "text", "r-1")
    assert "ERROR a.b: tried [redacted]" in logged(capsys, "text")
