"""The audit log: whole lines that nobody can forge, in a private file, whatever the disk does."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.logs import request_id
from runicorn_remote.redaction import REDACTED, redactor
from runicorn_remote.services import Services
from runicorn_remote.services.audit import Audit, Caller
from runicorn_remote.settings import Settings, SettingsError


class AnHour(Clock):
    """A clock that stands until it is moved."""

    now = 1_770_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "audit.jsonl"


@pytest.fixture
def audit(path: Path) -> Iterator[Audit]:
    audit = Audit(str(path), AnHour())
    yield audit
    audit.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_line_says_who_did_what_to_what_with_which_result(audit: Audit, path: Path) -> None:
    number = request_id.set("abc")
    try:
        audit.write(
            "connect",
            "AUTH_FAILED",
            target={"connection_id": "me@gpu1:22", "saved_server_id": None},
            caller=Caller(os.getuid(), "127.0.0.1"),
            ms=12.345,
        )
    finally:
        request_id.reset(number)
    audit.write("viewer.swept", target={"session_id": "1f"})
    first, second = lines(path)
    assert first.pop("user")
    assert first == {
        "time": 1_770_000_000_000,
        "at": "2026-02-02T02:40:00.000Z",
        "request_id": "abc",
        "action": "connect",
        "result": "AUTH_FAILED",
        "uid": os.getuid(),
        "address": "127.0.0.1",
        "ms": 12.3,
        "target": {"connection_id": "me@gpu1:22"},
    }
    assert (second["action"], second["result"]) == ("viewer.swept", "ok")
    assert "uid" not in second
    assert "request_id" not in second


def test_only_the_owner_reads_it_from_its_creation_on(audit: Audit, path: Path) -> None:
    before = os.umask(0)
    try:
        audit.open()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "evil", ['\n{"action": "x"}', "\r\n", "\u2028", "\x1b[2J", "\x85", "\ud800", "\0", '"}']
)
def test_no_value_can_forge_a_line(audit: Audit, path: Path, evil: str) -> None:
    audit.write("connect", target={"connection_id": f"me{evil}@gpu1:22"})
    raw = path.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert lines(path)[0]["target"]["connection_id"] == f"me{evil}@gpu1:22"


def test_secrets_are_cut_out_and_long_values_short(audit: Audit, path: Path) -> None:
    redactor.register(['canary "of" the audit'])
    audit.write("connect", target={"host": 'at canary "of" the audit', "remote_root": "/long" * 2_000})
    target = lines(path)[0]["target"]
    assert target["host"] == f"at {REDACTED}"
    assert len(target["remote_root"]) == 256


def test_after_a_rotation_lines_go_to_the_new_file(audit: Audit, path: Path) -> None:
    audit.write("one")
    path.rename(path.with_suffix(".1"))
    audit.write("two")
    path.unlink()
    path.write_text("")  # as logrotate's `create` does
    audit.write("three")
    os.truncate(path, 0)  # as its `copytruncate` does
    audit.write("four")
    assert [line["action"] for line in lines(path.with_suffix(".1"))] == ["one"]
    assert [line["action"] for line in lines(path)] == ["four"]


def test_what_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "real"
    file.touch()
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "", "real/below"):
        with pytest.raises(SettingsError, match=r"^audit_log: "):
            Audit(f"{tmp_path}/{name}", Clock()).open()
    with pytest.raises(SettingsError, match="not a regular file"):
        Audit("/dev/null", Clock()).open()


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As a full disk: what still fits is written, then comes an error."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_once_and_costs_lines_but_no_request(
    audit: Audit, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit.write("one")
    with no_file_longer_than(path.stat().st_size + 20):
        for _ in range(3):
            audit.write("lost")
    audit.write("two")
    assert audit.lost == 3
    said = [record.levelno for record in caplog.records]
    assert said == [logging.ERROR, logging.WARNING]
    one, half, two = path.read_text().splitlines()
    assert (json.loads(one)["action"], json.loads(two)["action"]) == ("one", "two")
    with pytest.raises(ValueError, match=r"."):
        json.loads(half)


def test_after_half_a_line_of_an_earlier_server_the_next_is_whole(audit: Audit, path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"time": 17')
    audit.write("one")
    audit.write("two")
    assert [json.loads(line)["action"] for line in path.read_text().splitlines()[1:]] == ["one", "two"]


def test_a_directory_that_vanishes_is_made_again(audit: Audit, path: Path) -> None:
    audit.write("one")
    path.unlink()
    path.parent.rmdir()
    audit.write("two")
    assert [line["action"] for line in lines(path)] == ["two"]


def test_strangers_cannot_fill_the_disk(path: Path) -> None:
    clock = AnHour()
    audit = Audit(str(path), clock)
    room = [audit.has_room_for_refusal() for _ in range(1000)]
    assert 0 < sum(room) < 100
    clock.now += 60
    assert audit.has_room_for_refusal()
    audit.close()
    (line,) = lines(path)
    assert (line["action"], line["result"]) == ("refused", "LEFT_OUT")
    assert line["target"] == {"requests": 1000 - sum(room)}


def test_standard_error_and_off(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Audit("-", AnHour()).write("connect")
    assert json.loads(capfd.readouterr().err)["action"] == "connect"
    Audit(None, AnHour()).write("connect")
    assert capfd.readouterr().err == ""


def test_what_a_server_that_ends_has_to_say_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    services = Services(Settings(state_dir=str(tmp_path / "state"), audit_log=str(path)))
    services.start()
    services.close()
    services.audit.write("after the end")
    assert [line["action"] for line in lines(path)] == ["server.started", "server.stopped"]
