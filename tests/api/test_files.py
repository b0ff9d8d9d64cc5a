"""Looking around on a host, over SFTP."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.services import Services
from tests.api.conftest import trust
from tests.api.user import User, faults, outcome
from tests.hosts.sshd import SshServer

pytestmark = pytest.mark.sshd


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Something of everything."""
    root = tmp_path / "some place"
    root.mkdir()
    (root / "b").mkdir()
    (root / "A").mkdir()
    (root / "a.txt").write_text("four")
    (root / "B.txt").write_bytes(b"")
    (root / ".hidden").write_text("x" * 1000)
    (root / "é.txt").write_text("")
    (root / "to-directory").symlink_to(root / "b")
    (root / "to-file").symlink_to(root / "a.txt")
    (root / "to-nothing").symlink_to(root / "nothing")
    (root / "to-itself").symlink_to(root / "to-itself")
    os.utime(root / "a.txt", (1_700_000_000, 1_700_000_000))
    return root


def test_a_listing(connected: User, directory: Path) -> None:
    answer = connected.ask("fs/list", path=str(directory))
    assert answer.status_code == 200
    body = answer.get_json()
    assert set(body) == {"path", "items"}
    assert body["path"] == str(directory)
    for item in body["items"]:
        assert {name: type(value) for name, value in item.items()} == {
            "name": str,
            "is_dir": bool,
            "size": int,
            "mtime": int,
        }
    items = [item for item in body["items"] if item["name"] not in ("to-nothing", "to-itself")]
    assert [(item["name"], item["is_dir"], item["size"]) for item in items] == [
        ("A", True, 0),
        ("b", True, 0),
        ("to-directory", True, 0),
        (".hidden", False, 1000),
        ("B.txt", False, 0),
        ("a.txt", False, 4),
        ("to-file", False, 4),
        ("é.txt", False, 0),
    ]
    broken = {item["name"]: item["is_dir"] for item in body["items"]}
    assert (broken["to-nothing"], broken["to-itself"]) == (False, False)
    (file,) = [item for item in body["items"] if item["name"] == "a.txt"]
    assert file["mtime"] == 1_700_000_000


def test_names_that_are_not_utf_8(connected: User, directory: Path) -> None:
    try:
        with open(os.fsencode(directory) + b"/bad\xff.txt", "wb"):
            os.mkdir(os.fsencode(directory) + b"/bad\xfe")
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 names only: {error}")
    names = [item["name"] for item in connected.ask("fs/list", path=str(directory)).get_json()["items"]]
    assert "bad\ufffd.txt" in names
    assert names.index("bad\ufffd") < names.index("a.txt")


def test_an_empty_directory(connected: User, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = connected.ask("fs/list", path=str(tmp_path / "empty"))
    assert answer.get_json() == {"path": str(tmp_path / "empty"), "items": []}


def test_many_entries(connected: User, tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1000):
        (root / f"{number:04}").touch()
        (root / f"link-{number:04}").symlink_to(root)
    items = connected.ask("fs/list", path=str(root)).get_json()["items"]
    assert [item["name"] for item in items] == [
        *(f"link-{number:04}" for number in range(1000)),
        *(f"{number:04}" for number in range(1000)),
    ]


def test_the_home_is_where_sftp_begins(connected: User) -> None:
    home = os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    assert connected.ask("fs/list").get_json()["path"] == home
    for path in ("~", "~/", "~/.", "."):
        assert connected.ask("fs/list", path=path).get_json()["path"] == home, path
    for path, absolute in (("~", home), ("~/", f"{home}/"), (".", f"{home}/."), ("~/.", f"{home}/.")):
        answer = connected.ask("fs/exists", path=path)
        assert answer.get_json() == {"path": absolute, "exists": True, "is_dir": True}
    answer = connected.ask("fs/exists", path="no such name")
    assert answer.get_json() == {"path": f"{home}/no such name", "exists": False, "is_dir": False}


def test_a_path_becomes_absolute(connected: User, directory: Path) -> None:
    for path in (
        f"{directory}/",
        f"{directory}/.",
        f"{directory}/b/..",
        f"{directory.parent}//{directory.name}",
    ):
        assert connected.ask("fs/list", path=path).get_json()["path"] == str(directory), path
    assert connected.ask("fs/list", path=f"{directory}/to-directory").get_json()["items"] == []


@pytest.mark.parametrize(
    ("below", "status", "code"),
    [
        ("nothing", 404, "PATH_NOT_FOUND"),
        ("nothing/below", 404, "PATH_NOT_FOUND"),
        ("to-nothing", 404, "PATH_NOT_FOUND"),
        ("to-itself", 404, "PATH_NOT_FOUND"),
        ("a.txt", 400, "NOT_A_DIRECTORY"),
        ("to-file", 400, "NOT_A_DIRECTORY"),
        ("a.txt/below", 404, "PATH_NOT_FOUND"),
        ("x" * 300, 400, "INVALID_PATH"),
    ],
)
def test_what_cannot_be_listed(connected: User, directory: Path, below: str, status: int, code: str) -> None:
    answer = connected.ask("fs/list", path=f"{directory}/{below}")
    assert outcome(answer) == (status, code)
    assert isinstance(answer.get_json()["detail"], str)
    assert connected.ask("fs/list", path=str(directory)).status_code == 200, "the connection goes on"


@pytest.mark.parametrize(
    ("below", "exists", "is_dir"),
    [
        ("", True, True),
        ("a.txt", True, False),
        ("b", True, True),
        ("to-directory", True, True),
        ("to-file", True, False),
        ("to-nothing", False, False),
        ("to-itself", False, False),
        ("nothing", False, False),
        ("a.txt/below", False, False),
        ("x" * 300, False, False),
    ],
)
def test_exists(connected: User, directory: Path, below: str, exists: bool, is_dir: bool) -> None:
    path = f"{directory}/{below}"
    answer = connected.ask("fs/exists", path=path)
    assert answer.status_code == 200
    assert answer.get_json() == {"path": path, "exists": exists, "is_dir": is_dir}


def test_paths_that_are_none(connected: User) -> None:
    for route in ("fs/list", "fs/exists"):
        assert outcome(connected.ask(route, path="")) == (400, "INVALID_VALUE")
        assert faults(connected.ask(route, path="a\0b")) == {"path"}
        assert faults(connected.ask(route, path="x" * 5000)) == {"path"}
    assert faults(connected.ask("fs/exists")) == {"path"}
    assert faults(connected.get("fs/list")) == {"connection_id"}


# --- what may not be seen


@pytest.fixture
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshServer, Path]]:
    """A server with an account that may not read everything, and a directory it may not read."""
    if os.geteuid() != 0:
        with SshServer(tmp_path_factory.mktemp("foreign")) as server:
            closed = server.directory / "closed"
            closed.mkdir(mode=0)
            yield server, closed
        return
    try:
        pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("root may read everything, and there is no account nobody to log in with")
    # Not below pytest's directories: nobody may not enter those.
    directory = Path(tempfile.mkdtemp(prefix="sshd-nobody-"))
    try:
        directory.chmod(0o755)
        with SshServer(directory) as server:
            server.username = "nobody"
            closed = directory / "closed"
            closed.mkdir(mode=0o700)
            yield server, closed
    finally:
        shutil.rmtree(directory)


def test_what_may_not_be_read(stranger: User, services: Services, foreign: tuple[SshServer, Path]) -> None:
    server, closed = foreign
    trust(services.known_hosts.file.path, server)
    user = User(stranger.client, server)
    answer = user.connect()
    assert answer.status_code == 200, answer.get_json()
    answer = user.ask("fs/list", path=str(closed))
    assert outcome(answer) == (403, "PATH_FORBIDDEN")
    assert answer.get_json()["detail"] == f"Permission denied: {closed}"
    assert outcome(user.ask("fs/list", path=str(closed / "below"))) == (403, "PATH_FORBIDDEN")
    assert user.ask("fs/exists", path=str(closed)).get_json()["is_dir"] is True
    answer = user.ask("fs/exists", path=str(closed / "below"))
    assert answer.get_json() == {"path": str(closed / "below"), "exists": False, "is_dir": False}
