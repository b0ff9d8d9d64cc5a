"""Listing directories over SFTP, where names are bytes and links are asked for in one go."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runicorn_remote.errors import (
    InvalidValue,
    LinkLost,
    NotADirectory,
    RemoteCommandFailed,
    RemotePathNotFound,
)
from runicorn_remote.ssh import sftp as sftp_module
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials
from tests.hosts.sshd import SshServer
from tests.ssh.conftest import trusted
from tests.ssh.tunnel_kit import TIMEOUT

pytestmark = pytest.mark.sshd


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty one."""
    directory = tmp_path / "listed"
    directory.mkdir()
    return directory


def names(remote: RemoteHost, path: Path) -> list[str]:
    with remote.sftp(timeout=10) as sftp:
        entries, more = sftp.list(str(path))
    assert not more
    return sorted(entry.name for entry in entries)


def test_entries(remote: RemoteHost, directory: Path) -> None:
    (directory / "directory").mkdir()
    (directory / "file").write_bytes(b"12345")
    (directory / "link").symlink_to("directory")
    (directory / "broken").symlink_to("nothing")
    os.utime(directory / "file", (1_500_000_000, 1_600_000_000.9))
    with remote.sftp(timeout=10) as sftp:
        entries = {entry.name: entry for entry in sftp.list(str(directory))[0]}
    assert set(entries) == {"directory", "file", "link", "broken"}
    file = entries["file"]
    assert (file.is_dir, file.size, file.mtime) == (False, 5, 1_600_000_000)
    assert [entries[name].is_dir for name in ("directory", "link", "broken")] == [True, True, False]
    assert [entries[name].size for name in ("directory", "link")] == [0, 0]


def test_names_of_every_kind(remote: RemoteHost, directory: Path) -> None:
    odd = ["a b", "a\nb", "'", '"', "$(x)", "-rf", "é", "\U0001f984", ".hidden", "x" * 255, "\x1b[31m"]
    for name in odd:
        (directory / name).touch()
    assert names(remote, directory) == sorted(odd)


def test_names_that_are_not_utf_8(remote: RemoteHost, directory: Path) -> None:
    root = os.fsencode(directory)
    try:
        os.mkdir(root + b"/bad\xff")
        os.symlink(b"bad\xff", root + b"/link\xfe")
    except OSError as error:
        pytest.skip(f"this file system takes UTF-8 names only: {error}")
    (directory / "good").touch()
    with remote.sftp(timeout=10) as sftp:
        entries = {entry.name: entry.is_dir for entry in sftp.list(str(directory))[0]}
    assert entries == {"bad\ufffd": True, "link\ufffd": True, "good": False}


def test_a_large_directory_is_cut_off(
    remote: RemoteHost, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp_module, "MAX_ENTRIES", 250)
    for number in range(251):
        (directory / f"{number:03}").touch()
    with remote.sftp(timeout=10) as sftp:
        entries, more = sftp.list(str(directory))
    assert (len(entries), more) == (250, True)


def test_absolute(remote: RemoteHost, directory: Path) -> None:
    (directory / "link").symlink_to(directory / "directory")
    (directory / "directory").mkdir()
    with remote.sftp(timeout=10) as sftp:
        home = sftp.absolute("~")
        assert home.startswith("/")
        assert [sftp.absolute(path) for path in (".", "~/", "~//", "~/.")] == [home] * 4
        assert sftp.absolute(f"{directory}/directory/../directory/.") == f"{directory}/directory"
        assert sftp.absolute(f"{directory}/link") == f"{directory}/directory"
        with pytest.raises(RemotePathNotFound):
            sftp.absolute(f"{directory}/nothing/below")


def test_what_is_there(remote: RemoteHost, directory: Path) -> None:
    (directory / "file").touch()
    with remote.sftp(timeout=10) as sftp:
        assert sftp.is_directory(str(directory)) is True
        assert sftp.is_directory(f"{directory}/file") is False
        for path in (f"{directory}/nothing", f"{directory}/file/below", f"{directory}/{'x' * 300}"):
            assert sftp.is_directory(path) is None


def test_what_cannot_be_listed(remote: RemoteHost, directory: Path) -> None:
    (directory / "file").touch()
    with remote.sftp(timeout=10) as sftp:
        with pytest.raises(NotADirectory):
            sftp.list(f"{directory}/file")
        with pytest.raises(RemotePathNotFound):
            sftp.list(f"{directory}/nothing")
        with pytest.raises(InvalidValue):
            sftp.list(f"{directory}/{'x' * 300}")
        # One session serves after each of these.
        assert sftp.list(str(directory))[0][0].name == "file"


def test_several_at_once(remote: RemoteHost, directory: Path) -> None:
    for number in range(100):
        (directory / str(number)).symlink_to(directory)
    found: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(names(remote, directory)), name=f"list-{number}")
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert found == [sorted(map(str, range(100)))] * 8


def test_sessions_are_given_back(remote: RemoteHost, directory: Path) -> None:
    for _ in range(30):
        assert names(remote, directory) == []


def listed_after(remote: RemoteHost, harm: Callable[[], None], timeout: float) -> None:
    """Do harm to the connection in the middle of a session, and go on."""
    with remote.sftp(timeout=timeout) as sftp:
        harm()
        sftp.list("/")


def test_a_frozen_host(remote: RemoteHost, sshd: SshServer) -> None:
    with pytest.raises(LinkLost) as caught:
        listed_after(remote, sshd.freeze_connections, 0.5)
    sshd.thaw_connections()
    assert caught.value.code == "LINK_TIMEOUT"


def test_a_link_that_is_cut(remote: RemoteHost, sshd: SshServer) -> None:
    with pytest.raises(LinkLost) as caught:
        listed_after(remote, sshd.kill_connections, 10)
    assert caught.value.code == "LINK_LOST"


def test_a_host_without_sftp(tmp_path: Path, connector: Connector, known_hosts: KnownHostsFile) -> None:
    with SshServer(tmp_path, options={"ForceCommand": "false"}) as server:
        remote = connector(trusted(server, known_hosts), Credentials(private_key_path=str(server.client_key)))
        try:
            with pytest.raises(RemoteCommandFailed) as caught, remote.sftp(timeout=5):
                pass
            assert caught.value.code == "SFTP_UNAVAILABLE"
            assert remote.connected
        finally:
            remote.close()


def test_copying_a_file(remote: RemoteHost, directory: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000) + b"the end")
    with remote.sftp(timeout=30) as sftp:
        sftp.put(source, f"{directory}/copy")
        assert (directory / "copy").read_bytes() == source.read_bytes()
        # What is there is nobody's to overwrite.
        with pytest.raises(RemoteCommandFailed):
            sftp.put(source, f"{directory}/copy")
        with pytest.raises(RemotePathNotFound):
            sftp.put(source, f"{directory}/none/copy")
    assert names(remote, directory) == ["copy"]
