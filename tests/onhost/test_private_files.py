from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from runicorn_remote.onhost import private_files
from runicorn_remote.onhost.common import Failure

SESSION = "0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return home


def test_every_level_is_private(home: Path) -> None:
    previous = os.umask(0)
    try:
        directory = Path(private_files.private_dir(SESSION))
    finally:
        os.umask(previous)
    assert directory == home / ".local/state/runicorn-remote" / private_files.host_name() / SESSION
    for level in (directory, *directory.parents[:4]):
        assert stat.S_IMODE(level.stat().st_mode) == 0o700 or level.name in (".local", "state")
    assert private_files.private_dir(SESSION) == str(directory)
    assert private_files.find_private_dir(SESSION) == str(directory)
    assert private_files.find_private_dir("ffffffffffff") is None


def test_an_existing_level_is_made_private(home: Path) -> None:
    ours = home / ".local/state/runicorn-remote"
    ours.mkdir(parents=True)
    ours.chmod(0o777)
    private_files.private_dir(SESSION)
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700


def test_the_users_own_directories_may_be_links(home: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (home / ".local").symlink_to(tmp_path / "scratch")
    directory = private_files.private_dir(SESSION)
    assert private_files.is_private_dir(directory, SESSION)
    assert os.path.isdir(tmp_path / "scratch/state/runicorn-remote")


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_none_of_our_levels_may_be_a_link(tmp_path: Path, depth: int) -> None:
    directory = Path(private_files.private_dir(SESSION))
    level = (directory, *directory.parents)[depth]
    level.rename(tmp_path / "moved")
    level.symlink_to(tmp_path / "moved")
    with pytest.raises(Failure, match="is a symbolic link"):
        private_files.private_dir(SESSION)
    assert not private_files.is_private_dir(str(directory), SESSION)
    assert not private_files.remove_private_dir(str(directory), SESSION)
    assert (tmp_path / "moved").is_dir()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_a_level_of_another_user_is_refused() -> None:
    directory = Path(private_files.private_dir(SESSION))
    os.chown(directory.parent, 65534, 65534)
    with pytest.raises(Failure, match="belongs to another user"):
        private_files.private_dir(SESSION)
    assert not private_files.is_private_dir(str(directory), SESSION)


def test_xdg_directories(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert private_files.private_dir(SESSION).startswith(f"{tmp_path}/state/runicorn-remote/")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert private_files.private_dir(SESSION).startswith(f"{home}/.local/state/runicorn-remote/")
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/version/nothing")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert private_files.private_dir(SESSION).startswith(f"{tmp_path}/runicorn-remote/")


def test_without_a_home_there_is_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc/version")
    directory = private_files.private_dir(SESSION)
    assert directory.startswith(f"{tmp_path}/temporary/runicorn-remote-")
    assert private_files.find_private_dir(SESSION) == directory
    assert private_files.remove_private_dir(directory, SESSION)
    assert os.listdir(tmp_path / "temporary") == []


def test_removing_takes_what_a_viewer_leaves_and_nothing_else(tmp_path: Path) -> None:
    directory = Path(private_files.private_dir(SESSION))
    for name in (*private_files.FILES_OF_A_VIEWER, "thesis.tex"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()
    assert not private_files.remove_private_dir(str(directory), SESSION)
    assert os.listdir(directory) == ["thesis.tex"]
    (directory / "thesis.tex").unlink()
    (directory / "viewer.log").symlink_to(tmp_path / "home")
    assert private_files.remove_private_dir(str(directory), SESSION)
    assert not directory.exists()
    assert (tmp_path / "home").is_dir()


def test_removing_follows_no_link_out_of_the_directory(tmp_path: Path) -> None:
    directory = Path(private_files.private_dir(SESSION))
    (tmp_path / "logs/session").mkdir(parents=True)
    (tmp_path / "logs/session/viewer.log").touch()
    (directory / "logs").symlink_to(tmp_path / "logs")
    assert not private_files.remove_private_dir(str(directory), SESSION)
    assert (tmp_path / "logs/session/viewer.log").exists()


@pytest.mark.parametrize("suffix", ["/..", "/", "/.", "/../../x/" + SESSION])
def test_only_the_exact_path_is_a_private_directory(suffix: str) -> None:
    directory = private_files.private_dir(SESSION)
    assert not private_files.is_private_dir(directory + suffix, SESSION)
    assert not private_files.is_private_dir(directory, "fedcba9876543210")
    assert not private_files.is_private_dir(os.path.relpath(directory), SESSION)


def test_a_record_is_replaced_as_a_whole() -> None:
    directory = private_files.private_dir(SESSION)
    assert private_files.read_record(directory) == {}
    private_files.write_record(directory, {"pid": 1})
    private_files.write_record(directory, {"pid": 2})
    assert private_files.read_record(directory) == {"pid": 2}
    assert os.listdir(directory) == ["viewer.json"]
    assert stat.S_IMODE(os.stat(f"{directory}/viewer.json").st_mode) == 0o600
    for garbage in (b"[1]", b"{", b"\xff", b""):
        Path(directory, "viewer.json").write_bytes(garbage)
        assert private_files.read_record(directory) == {}


def test_a_linked_log_is_not_opened(tmp_path: Path) -> None:
    directory = private_files.private_dir(SESSION)
    (tmp_path / "precious").write_text("precious")
    Path(directory, "viewer.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        private_files.open_log(directory)
    assert private_files.log_tail(f"{directory}/viewer.log") == []
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"", []),
        (b"one\n\n  \ntwo", ["one", "two"]),
        (b"\x1b[31mERROR\x1b[0m:\tdisk\r\n", ["ERROR: disk"]),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b(Bc\x1b=d", ["abcd"]),
        (b"bell\x07 back\x08 nul\x00 c1\x9b", ["bell back nul c1\ufffd"]),
        ("right\u202eto left \u2028 zero\u200bwidth".encode(), ["rightto left  zerowidth"]),
        (b"\xff\xfe", ["\ufffd\ufffd"]),
        (b"x" * 1000, ["x" * 300]),
        (b"".join(b"%d\n" % number for number in range(30)), [str(number) for number in range(10, 30)]),
        (b"y" * 9000 + b"\nlast\n", ["last"]),
        (b"z" * 9000, ["z" * 300]),
    ],
)
def test_the_tail_of_a_log(tmp_path: Path, written: bytes, shown: list[str]) -> None:
    (tmp_path / "log").write_bytes(written)
    assert private_files.log_tail(str(tmp_path / "log")) == shown


def test_the_tail_of_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        assert private_files.log_tail(str(path)) == []


@pytest.mark.parametrize("name", [b"plain", "größe".encode(), b"\xff\xfe", b"new\nline"])
def test_a_path_survives_the_round_trip(name: bytes) -> None:
    path = os.fsdecode(name)
    assert private_files.to_path(private_files.to_text(path)) == path


def test_a_text_that_is_no_path() -> None:
    with pytest.raises(Failure):
        private_files.to_path("\ud800")
