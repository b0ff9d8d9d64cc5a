"""The known_hosts file on a real disk: locks, replacement, and everything that may be in its place."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from runicorn_remote.errors import StateError
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def ed25519(number: int) -> HostKey:
    return HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + number.to_bytes(32, "big"))


A, B = ed25519(1), ed25519(2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "runicorn" / "known_hosts"


def test_accept_judge_remove(path: Path) -> None:
    file = KnownHostsFile(path)
    assert file.judge("gpu1", 22, A.type, A.blob).kind == "unknown"
    assert file.accept("gpu1", 22, A) is True
    assert file.accept("gpu1", 22, A) is False
    assert file.judge("gpu1", 22, A.type, A.blob).kind == "trusted"
    verdict = file.judge("gpu1", 22, B.type, B.blob)
    assert (verdict.kind, verdict.expected) == ("changed", A)
    assert file.lookup("gpu1", 22).stored_types == ("ssh-ed25519",)
    assert [item.key for item in file.list()] == [A]
    assert file.remove("gpu1", 22, A.type) is True
    assert file.remove("gpu1", 22, A.type) is False
    assert file.list() == []


def test_edits_by_others_count_at_once(path: Path) -> None:
    file = KnownHostsFile(path)
    file.accept("gpu1", 22, A)
    path.write_text(path.read_text() + f"gpu2 {B}\n")
    assert file.lookup("gpu2", 22).trusted == (B,)


def test_all_bytes_survive(path: Path) -> None:
    junk = b"\xff\xfe\0 bytes\r\n\r\n@what is this\n\xe2\x80\xa8\x0c\x1c\r# last line without end \x80"
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    file = KnownHostsFile(path)
    file.accept("gpu1", 22, A)
    assert path.read_bytes() == junk + b"\n" + f"gpu1 {A}\n".encode()
    file.remove("gpu1", 22, A.type)
    assert path.read_bytes() == junk + b"\n"


@posix_only
def test_modes_and_no_leftovers(path: Path, tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        KnownHostsFile(path).accept("gpu1", 22, A)
    finally:
        os.umask(previous)
    modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in tmp_path.rglob("*")}
    assert modes == {"config": 0o700, "runicorn": 0o700, "known_hosts": 0o600, "known_hosts.lock": 0o600}


@posix_only
def test_a_file_that_was_open_to_others_becomes_private(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    path.chmod(0o644)
    KnownHostsFile(path).accept("gpu1", 22, A)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_refused(path: Path, tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "elsewhere"
    if exists:
        target.write_text("# not ours\n")
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    assert_unusable(path, "symbolic link")
    assert path.is_symlink()
    assert target.exists() is exists
    assert not exists or target.read_text() == "# not ours\n"


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may chown")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"gpu1 {A}\n")
    os.chown(path, 65534, 65534)
    assert_unusable(path, "belongs to another user")
    assert path.read_text() == f"gpu1 {A}\n"


@posix_only
def test_one_that_only_looks_changes_no_mode(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"gpu1 {A}\n")
    path.chmod(0o644)
    assert KnownHostsFile(path, read_only=True).lookup("gpu1", 22).trusted == (A,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def assert_unusable(path: Path, reason: str) -> None:
    file = KnownHostsFile(path)
    for use in (
        lambda: file.judge("gpu1", 22, A.type, A.blob),
        lambda: file.accept("gpu1", 22, A),
        lambda: file.remove("gpu1", 22, A.type),
        file.list,
    ):
        with pytest.raises(StateError, match=reason) as caught:
            use()
        assert caught.value.code == "KNOWN_HOSTS_UNREADABLE"
        assert str(path) in str(caught.value)


def test_a_directory_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "precious").touch()
    assert_unusable(path, "not a regular file")
    assert (path / "precious").exists()


@posix_only
def test_a_fifo_in_its_place_makes_nobody_wait(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert_unusable(path, "not a regular file")
    assert stat.S_ISFIFO(path.stat().st_mode)


@posix_only
def test_a_link_to_itself(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.symlink_to(path)
    assert_unusable(path, "symbolic link")
    assert path.is_symlink()


@contextlib.contextmanager
def unprivileged(*paths: Path) -> Iterator[None]:
    """Root may read everything: as root, be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    for owned in paths:
        os.chown(owned, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@posix_only
def test_a_file_without_permission_to_read_is_not_overwritten() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "known_hosts"
        path.write_text(f"gpu1 {B}\n")
        path.chmod(0)
        with unprivileged(path.parent, path):
            assert_unusable(path, "Permission denied")
        path.chmod(0o600)
        assert path.read_text() == f"gpu1 {B}\n"


@posix_only
def test_a_directory_without_permission_to_write() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "known_hosts"
        path.write_text(f"gpu1 {B}\n")
        path.parent.chmod(0o500)
        with unprivileged(path.parent, path):
            file = KnownHostsFile(path)
            assert file.judge("gpu1", 22, B.type, B.blob).kind == "trusted"
            with pytest.raises(StateError) as caught:
                file.accept("gpu1", 22, A)
        path.parent.chmod(0o700)
        assert caught.value.code == "KNOWN_HOSTS_UNWRITABLE"
        assert os.listdir(directory) == ["known_hosts"]


def test_a_lock_that_stays_taken_is_said_so(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with FileLock(f"{path}.lock"):
        results: list[object] = []

        def edit() -> None:
            file = KnownHostsFile(path, lock_timeout=0.1)
            results.append(file.list())  # readers need no lock
            try:
                file.accept("gpu1", 22, A)
            except StateError as error:
                results.append(error.code)

        thread = threading.Thread(target=edit, name="editor")
        thread.start()
        thread.join(20)
    assert results == [[], "KNOWN_HOSTS_LOCKED"]
    assert not path.exists()
    assert KnownHostsFile(path, lock_timeout=0.1).accept("gpu1", 22, A)


ACCEPT_TEN = """
import sys
from pathlib import Path
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
path, worker = Path(sys.argv[1]), int(sys.argv[2])
file = KnownHostsFile(path, lock_timeout=90)
for number in range(10):
    blob = b"\\0\\0\\0\\x0bssh-ed25519\\0\\0\\0 " + (worker * 100 + number).to_bytes(32, "big")
    file.accept(f"host-{worker}-{number}", 22, HostKey("ssh-ed25519", blob))
"""


def test_processes_and_threads_that_accept_at_once_lose_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    workers = [
        subprocess.Popen([sys.executable, "-c", ACCEPT_TEN, str(path), str(worker)]) for worker in range(4)
    ]
    file = KnownHostsFile(path, lock_timeout=90)

    def accept_ten(worker: int) -> None:
        for number in range(10):
            file.accept(f"host-{worker}-{number}", 22, ed25519(worker * 100 + number))

    threads = [threading.Thread(target=accept_ten, args=(n,), name=f"accept-{n}") for n in range(4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert [worker.wait(90) for worker in workers] == [0] * 4
    stored = {item.host: item.key for item in file.list()}
    assert stored == {f"host-{w}-{n}": ed25519(w * 100 + n) for w in range(8) for n in range(10)}
    assert path.read_text().startswith("# mine\n")
    assert sorted(os.listdir(path.parent)) == ["known_hosts", "known_hosts.lock"]


ACCEPT_ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from runicorn_remote.errors import StateError
from runicorn_remote.ssh.known_hosts import HostKey
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
blob = b"\\0\\0\\0\\x0bssh-ed25519\\0\\0\\0 " + bytes(32)
try:
    KnownHostsFile(Path(sys.argv[1])).accept("gpu1", 22, HostKey("ssh-ed25519", blob))
except StateError as error:
    print(error.code)
"""


@posix_only
def test_a_write_that_finds_no_room_leaves_the_file_as_it_was(path: Path) -> None:
    path.parent.mkdir(parents=True)
    before = "".join(f"host-{number} {ed25519(number)}\n" for number in range(500))
    path.write_text(before)
    done = subprocess.run(
        [sys.executable, "-c", ACCEPT_ON_A_FULL_DISK, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("KNOWN_HOSTS_UNWRITABLE", "")
    assert path.read_text() == before
    assert sorted(os.listdir(path.parent)) == ["known_hosts", "known_hosts.lock"]
