"""Private files: modes from creation, nothing of other users, and no loss when the disk is full."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runicorn_remote.errors import StateError
from runicorn_remote.private_files import (
    create_private,
    make_private_directory,
    read_private,
    state_lock,
    write_private,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="owners and modes are POSIX's")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
NOBODY = 65534


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "config" / "runicorn"


@pytest.fixture(autouse=True)
def permissive_umask() -> Iterator[None]:
    """The worst umask: whatever is created without a mode of its own is open to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_directory_and_the_parents_it_creates_are_private(state: Path) -> None:
    make_private_directory(state)
    assert (mode(state), mode(state.parent)) == (0o700, 0o700)


def test_an_existing_parent_keeps_its_mode(state: Path) -> None:
    state.parent.mkdir(mode=0o755)
    make_private_directory(state)
    assert mode(state.parent) == 0o755


def test_a_looser_directory_of_ours_is_closed_to_others(state: Path) -> None:
    state.mkdir(parents=True, mode=0o775)
    make_private_directory(state)
    assert mode(state) == 0o700


def test_a_file_is_private_when_it_is_created_and_when_it_is_replaced(state: Path) -> None:
    path = state / "connections.json"
    write_private(path, b"one")
    assert mode(path) == 0o600
    path.chmod(0o644)
    write_private(path, b"two")
    assert (mode(path), read_private(path, 100)) == (0o600, b"two")
    assert os.listdir(state) == ["connections.json"]


def test_a_file_that_others_may_read_is_closed_to_them_when_it_is_read(state: Path) -> None:
    write_private(state / "file", b"text")
    (state / "file").chmod(0o664)
    assert read_private(state / "file", 100) == b"text"
    assert mode(state / "file") == 0o600


def test_a_missing_file_or_directory_reads_as_none(state: Path) -> None:
    assert read_private(state / "file", 100) is None
    assert not state.exists()


def test_a_file_is_read_up_to_its_limit(state: Path) -> None:
    write_private(state / "file", b"x" * 10)
    assert read_private(state / "file", 10) == b"x" * 10
    with pytest.raises(StateError, match="larger than 9 bytes"):
        read_private(state / "file", 9)


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "shared directory"])
def test_what_is_no_directory_of_ours_is_refused(state: Path, kind: str) -> None:
    state.parent.mkdir()
    if kind == "file":
        state.write_bytes(b"")
    elif kind == "shared directory":
        state.mkdir()
        state.chmod(0o1777)
    else:
        target = state.with_name("elsewhere")
        if kind == "link":
            target.mkdir()
        state.symlink_to(target)
    for use in (
        lambda: make_private_directory(state),
        lambda: write_private(state / "file", b"secret"),
        lambda: read_private(state / "file", 100),
    ):
        with pytest.raises(
            StateError, match=r"runicorn.*(symbolic link|not a directory|shared by all users)"
        ):
            use()
    assert not list(state.parent.glob("*/file"))
    if kind == "shared directory":
        assert mode(state) == 0o1777


@as_root
def test_a_directory_of_another_user_is_refused(state: Path) -> None:
    make_private_directory(state)
    os.chown(state, NOBODY, NOBODY)
    with pytest.raises(StateError, match="belongs to another user \\(uid 65534\\)"):
        write_private(state / "file", b"secret")
    with pytest.raises(StateError, match="belongs to another user"):
        read_private(state / "file", 100)


@as_root
def test_a_file_of_another_user_is_neither_read_nor_replaced(state: Path) -> None:
    write_private(state / "file", b"theirs")
    os.chown(state / "file", NOBODY, NOBODY)
    with pytest.raises(StateError, match="belongs to another user"):
        read_private(state / "file", 100)
    with pytest.raises(StateError, match="belongs to another user"):
        write_private(state / "file", b"ours")
    assert (state / "file").read_bytes() == b"theirs"


def test_a_linked_file_is_neither_read_nor_replaced(state: Path, tmp_path: Path) -> None:
    make_private_directory(state)
    target = tmp_path / "target"
    target.write_bytes(b"elsewhere")
    (state / "file").symlink_to(target)
    with pytest.raises(StateError, match="symbolic link"):
        read_private(state / "file", 100)
    with pytest.raises(StateError, match="symbolic link"):
        write_private(state / "file", b"ours")
    assert target.read_bytes() == b"elsewhere"
    assert (state / "file").is_symlink()


def test_a_pipe_or_a_directory_in_place_of_the_file_is_refused_at_once(state: Path) -> None:
    make_private_directory(state)
    os.mkfifo(state / "pipe")
    (state / "directory").mkdir()
    for name in ("pipe", "directory"):
        with pytest.raises(StateError, match="not a regular file"):
            read_private(state / name, 100)
        with pytest.raises(StateError, match="not a regular file"):
            write_private(state / name, b"ours")


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(state: Path) -> None:
    path = state / "connections.json"
    write_private(path, b"old")
    script = f"""
import resource
from pathlib import Path
from runicorn_remote.errors import StateError
from runicorn_remote.private_files import create_private, write_private
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write, path in (write_private, {str(path)!r}), (create_private, {str(state / "key")!r}):
    try:
        write(Path(path), b"x" * 100_000)
    except StateError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    messages = run.stdout.splitlines()
    assert len(messages) == 2
    assert f"{path} cannot be written" in messages[0]
    assert "It was not changed" in messages[0]
    assert path.read_bytes() == b"old"
    assert os.listdir(state) == ["connections.json"]


def test_a_failed_replacement_leaves_the_old_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state / "file"
    write_private(path, b"old")

    def fail(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StateError, match="Permission denied"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(state) == ["file"]


def test_readers_see_the_old_content_or_the_new_one(state: Path) -> None:
    path = state / "file"
    contents = [bytes([number]) * 50_000 for number in range(8)]
    write_private(path, contents[0])
    done = threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(read_private(path, 100_000))

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda content: write_private(path, content), contents * 5))
    done.set()
    reader.join(30)
    assert seen
    assert set(seen) <= set(contents)


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_exactly_one_of_many_creates_a_file(
    state: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool
) -> None:
    if not has_hard_links:

        def refuse(*args: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path = state / "key"
    contents = [bytes([number]) * 44 for number in range(16)]
    with ThreadPoolExecutor(8) as creators:
        created = list(creators.map(lambda content: create_private(path, content), contents))
    assert created.count(True) == 1
    assert path.read_bytes() == contents[created.index(True)]
    assert mode(path) == 0o600
    assert os.listdir(state) == ["key"]


def test_a_lock_keeps_others_out_and_gives_up_in_time(state: Path) -> None:
    make_private_directory(state)
    lock = state / "connections.json.lock"
    held = threading.Event()
    let_go = threading.Event()

    def hold() -> None:
        with state_lock(lock, 10):
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold, name="holder")
    holder.start()
    assert held.wait(10)
    with pytest.raises(StateError, match="held by another process") as caught, state_lock(lock, 0.1):
        pytest.fail("two holders")
    assert caught.value.code == "STATE_LOCKED"
    assert mode(lock) == 0o600
    let_go.set()
    holder.join(30)
    with state_lock(lock, 10):
        pass
