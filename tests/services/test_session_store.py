"""Sessions on disk: found again as they were, never a secret, and never at the cost of what is there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.services.session_fields import RemoteProcess
from runicorn_remote.services.session_store import SessionRecord, SessionStore
from runicorn_remote.services.viewer_session import ViewerSession
from runicorn_remote.ssh.target import Credentials, Target

RECORD = SessionRecord(
    session_id="0123456789abcdef",
    host="gpu-1.example.org",
    port=2222,
    username="me",
    private_key_path="~/.ssh/id_ed25519",
    use_agent=False,
    saved_server_id=None,
    needs_secret=False,
    local_port=40123,
    remote_root="/home/me/Läufe",
    environment="torch",
    runicorn_version="0.7.2",
    pid=4711,
    start_time="123456",
    remote_port=23301,
    directory="/home/me/.local/state/runicorn-remote/gpu-1/0123456789abcdef",
    started_at=1_700_000_000_000,
    reconnects=3,
    restarts=1,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sessions.json"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    """Claimed, and empty."""
    store = SessionStore(path)
    assert store.claim() == []
    yield store
    store.close()


def reopened(path: Path) -> tuple[SessionStore, list[SessionRecord]]:
    store = SessionStore(path)
    return store, store.claim()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- what is written is what is found


def test_records_are_found_again(store: SessionStore, path: Path) -> None:
    others = replace(
        RECORD,
        session_id="fedcba9876543210",
        private_key_path=None,
        saved_server_id="a",
        environment=None,
        runicorn_version=None,
        launch_args={"job": "123"},
        node="node17",
    )
    assert store.save([RECORD, others])
    store.close()
    again, records = reopened(path)
    assert records == [RECORD, others]
    assert again.server_id == store.server_id, "its viewers carry this mark"
    again.close()


def test_the_mark_is_written_before_any_viewer_can_carry_it(store: SessionStore, path: Path) -> None:
    assert json.loads(path.read_text()) == {"server": store.server_id, "sessions": []}
    assert len(store.server_id) == 16


def test_only_the_owner_may_read_it(store: SessionStore, path: Path) -> None:
    assert store.save([RECORD])
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert mode(path.with_name("sessions.json.owner")) == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["sessions.json", "sessions.json.owner"]


@pytest.mark.parametrize(
    "secrets",
    [
        {"password": "c4n4ry"},
        {"private_key": "c4n4ry"},
        {"private_key_path": "~/.ssh/key", "passphrase": "c4n4ry"},
        {"password": "c4n4ry", "private_key": "c4n4ry", "passphrase": "c4n4ry"},
    ],
    ids=lambda secrets: "+".join(secrets),
)
def test_no_secret_is_ever_written(store: SessionStore, path: Path, secrets: dict[str, str]) -> None:
    session = ViewerSession.new(
        RECORD.session_id,
        Target("gpu-1", 22, "me"),
        None,
        local_port=40123,
        remote_root="~",
        environment=None,
        remote_port=None,
        clock=Clock(),
    )
    session.credentials = Credentials(**secrets)
    session.launched(RemoteProcess(4711, "123", 23300, "/x"))
    assert session.ready()
    record = session.record()
    assert record is not None
    assert store.save([record])
    written = path.read_text()
    assert "c4n4ry" not in written
    assert record.needs_secret
    assert session.credentials.identity not in written, "nor anything to try guesses against"


# --- one owner


def test_a_second_server_gets_nothing_and_changes_nothing(store: SessionStore, path: Path) -> None:
    assert store.save([RECORD])
    before = path.read_bytes()
    second, records = reopened(path)
    assert records == []
    assert second.server_id != store.server_id, "it must not end the first one's viewers"
    assert not second.save([])
    assert path.read_bytes() == before
    second.close()
    assert store.save([RECORD, RECORD]), "the first goes on"


def test_the_next_server_becomes_the_owner_when_the_first_has_closed(store: SessionStore, path: Path) -> None:
    assert store.save([RECORD])
    store.close()
    assert not store.save([]), "nor does it write any more"
    again, records = reopened(path)
    assert records == [RECORD]
    assert again.save([])
    again.close()


def test_the_owner_may_be_closed_in_another_thread(path: Path) -> None:
    store, _ = reopened(path)
    thread = threading.Thread(target=store.close, name="closing")
    thread.start()
    thread.join(10)
    again, _ = reopened(path)
    assert again.save([RECORD])
    again.close()


def test_a_killed_owner_owns_nothing(path: Path) -> None:
    program = textwrap.dedent("""
        import signal, sys
        from pathlib import Path
        from runicorn_remote.services.session_store import SessionStore
        store = SessionStore(Path(sys.argv[1]))
        store.claim()
        print(store.server_id, flush=True)
        signal.pause()
    """)
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        mark = owner.stdout.readline().strip()
        second, _ = reopened(path)
        assert not second.save([]), "it lives"
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    third, _ = reopened(path)
    assert third.server_id == mark
    assert third.save([RECORD])
    third.close()


# --- what cannot be read or written


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"server": "abc"}',
        b'{"server": 1, "sessions": []}',
        b'{"server": "../x", "sessions": []}',
        b'{"server": "abc", "sessions": 7}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:24].decode("latin-1"),
)
def test_a_file_we_cannot_read_is_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    store, records = reopened(path)
    assert records == []
    assert not store.save([RECORD])
    assert path.read_bytes() == content
    store.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": "4711"},
        {"pid": True},
        {"pid": 1},
        {"pid": -4711},
        {"local_port": 0},
        {"local_port": 65536},
        {"remote_port": -1},
        {"port": 1.5},
        {"host": None},
        {"use_agent": 1},
        {"session_id": "../../etc"},
        {"session_id": ""},
        {"environment": 7},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_hides_no_other(path: Path, changes: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700)
    entries = [{**asdict(RECORD), **changes}, {**asdict(RECORD), "of_a_later_version": [1]}, "text", None]
    path.write_text(json.dumps({"server": "0123456789abcdef", "sessions": entries}))
    store, records = reopened(path)
    assert records == [RECORD]
    store.close()


def test_a_record_without_a_field_is_dropped(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    entry = asdict(RECORD)
    del entry["start_time"]
    path.write_text(json.dumps({"server": "0123456789abcdef", "sessions": [entry]}))
    store, records = reopened(path)
    assert records == []
    assert store.save([]), "and the file is ours all the same"
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text(json.dumps({"server": "0123456789abcdef", "sessions": []}))
    path.symlink_to(elsewhere)
    store, records = reopened(path)
    assert records == []
    assert not store.save([RECORD])
    assert path.is_symlink()
    store.close()


def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    store, records = reopened(tmp_path / "state" / "sessions.json")
    assert records == []
    assert not store.save([RECORD])
    store.close()


def test_a_full_disk_costs_nothing_but_the_news(store: SessionStore, path: Path) -> None:
    resource = pytest.importorskip("resource")
    assert store.save([RECORD])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        assert not store.save([RECORD] * 20)
        assert path.read_bytes() == before
        assert sorted(os.listdir(path.parent)) == ["sessions.json", "sessions.json.owner"], "no half a file"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.save([RECORD] * 2)
    assert len(json.loads(path.read_text())["sessions"]) == 2
    assert mode(path) == 0o600


def test_a_full_disk_is_told_once(store: SessionStore, caplog: pytest.LogCaptureFixture) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def full(times: int) -> int:
        caplog.clear()
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            results = [store.save([RECORD]) for _ in range(times)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert results == [False] * times
        return len([entry for entry in caplog.records if "could not be written" in entry.getMessage()])

    assert full(3) == 1
    assert store.save([RECORD])
    assert full(2) == 1, "and again when it has worked in between"
