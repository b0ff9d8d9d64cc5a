"""Which key files may be named, and that nothing is learnt from the others."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from runicorn_remote.errors import KeyUnusable, PassphraseRequired, PassphraseWrong
from runicorn_remote.ssh.key_paths import MAX_KEY_BYTES, KeyPaths
from tests.ssh.test_auth import PASSPHRASE, new_key, public


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The one configured directory, with `key` and `encrypted` in it."""
    root = tmp_path / "root"
    root.mkdir()
    new_key(root / "key")
    new_key(root / "encrypted", PASSPHRASE)
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "root-of-others"  # begins as the root does
    directory.mkdir()
    new_key(directory / "key")
    return directory


def refusal(paths: KeyPaths, path: str | Path) -> tuple[str, str, str | None]:
    with pytest.raises(KeyUnusable) as caught:
        paths.load(str(path))
    return str(caught.value), caught.value.code, caught.value.hint


def loads(paths: KeyPaths, path: str | Path) -> bool:
    return bool(paths.load(str(path)).asbytes())


def test_a_file_below_a_root(root: Path) -> None:
    paths = KeyPaths([str(root)])
    (root / "a/b").mkdir(parents=True)
    (root / "key").rename(root / "a/b/key")
    for spelling in ("a/b/key", "a/./b//key", "a/../a/b/key"):
        assert loads(paths, f"{root}/{spelling}")


def test_the_defaults_are_the_home_and_its_ssh_directory(private_home: Path, tmp_path: Path) -> None:
    paths = KeyPaths(["~/.ssh", "~"])
    elsewhere = tmp_path / "nfs"
    elsewhere.mkdir()
    (private_home / ".ssh").symlink_to(elsewhere)
    new_key(elsewhere / "id")
    new_key(private_home / "key")
    assert loads(paths, "~/.ssh/id")
    assert loads(paths, "~/key")
    assert loads(paths, elsewhere / "id"), "the root by its other name"
    assert not loads_at_all(paths, tmp_path / "key")


def loads_at_all(paths: KeyPaths, path: str | Path) -> bool:
    try:
        return loads(paths, path)
    except KeyUnusable:
        return False


def test_links_within_the_root_and_out_of_it(root: Path, outside: Path) -> None:
    paths = KeyPaths([str(root)])
    (root / "within").symlink_to("key")
    (root / "out").symlink_to(outside / "key")
    (root / "away").symlink_to(outside)
    (root / "up").symlink_to("..")
    assert loads(paths, root / "within")
    expected = refusal(paths, root / "missing")
    for path in ("out", "away/key", f"up/{outside.name}/key", f"../{outside.name}/key"):
        assert refusal(paths, root / path) == expected


def test_a_relative_path_is_one_from_where_the_server_was_started(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = KeyPaths([str(root)])
    monkeypatch.chdir(root)
    assert loads(paths, "key")
    monkeypatch.chdir(outside)
    assert refusal(paths, "key") == refusal(paths, root / "missing")


def test_a_directory_that_becomes_a_link_in_between(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the comparison is old by the time the file is opened."""
    below = root / "below"
    below.mkdir()
    new_key(below / "key")
    wanted = str(below / "key")
    resolve = os.path.realpath

    def exchanged(path: str) -> str:
        real = resolve(path)
        if str(path) == wanted and not below.is_symlink():
            below.rename(root / "before")
            below.symlink_to(outside)
        return real

    monkeypatch.setattr(os.path, "realpath", exchanged)
    assert not loads_at_all(KeyPaths([str(root)]), wanted)
    assert below.is_symlink()


def test_one_answer_for_all_that_is_no_key(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "fifo")
    (root / "directory").mkdir()
    (root / "text").write_text("a secret of this machine")
    (root / "empty").touch()
    (root / "binary").write_bytes(b"\xff\xfe PRIVATE KEY")
    (root / "broken").write_text("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n")
    openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
    (root / "cut").write_text(openssh)
    (root / "forbidden").write_text(openssh)
    (root / "forbidden").chmod(0)
    (root / "huge").write_bytes((root / "key").read_bytes().ljust(MAX_KEY_BYTES + 1, b"\n"))
    (root / "loop").symlink_to("loop")
    (root / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(root)  # the path of a socket may not be long
        listener.bind("socket")
    inside = [*sorted(item.name for item in root.iterdir() if not item.name.startswith(("key", "encrypted")))]
    inside += ["missing", "missing/below", "key/below", "key.pub", "x" * 300, "a\0b", "."]
    odd = [
        "",
        ".",
        "/",
        "~",
        "~root/.ssh/id_rsa",
        "~no-such-user/key",
        "/dev/zero",
        "/proc/self/mem",
        "\ud800",
    ]
    odd += ["/etc/passwd", "/etc/shadow", str(outside / "key"), str(outside / "missing"), "x" * 5000]
    paths = KeyPaths([str(root)])
    answers = {refusal(paths, path) for path in (*(root / name for name in inside), *odd)}
    assert [code for _, code, _ in answers] == ["KEY_UNUSABLE"]


def test_nothing_outside_is_touched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An automounter's directory would take its time, and tell by that what is there."""
    touched = []
    for name in ("lstat", "stat", "open", "readlink"):
        real = getattr(os, name)

        def noted(path: object, *arguments: object, _real: object = real, **more: object) -> object:
            touched.append(str(path))
            return _real(path, *arguments, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, noted)
    refusal(KeyPaths([str(root)]), "/net/fileserver/key")
    monkeypatch.undo()
    assert not [path for path in touched if path.startswith("/net")]


def test_all_refusals_are_quick(root: Path, outside: Path) -> None:
    paths = KeyPaths([str(root)])
    (root / "text").write_text("x\n" * (MAX_KEY_BYTES // 2))
    os.mkfifo(root / "fifo")
    for path in (outside / "key", root / "missing", root / "text", root / "fifo"):
        began = time.monotonic()
        refusal(paths, path)
        assert time.monotonic() - began < 1


def test_a_key_that_is_encrypted_says_so(root: Path, outside: Path) -> None:
    paths = KeyPaths([str(root)])
    with pytest.raises(PassphraseRequired):
        paths.load(str(root / "encrypted"))
    with pytest.raises(PassphraseWrong):
        paths.load(str(root / "encrypted"), "a wrong guess")
    assert paths.load(str(root / "encrypted"), PASSPHRASE)
    new_key(outside / "encrypted", PASSPHRASE)
    assert refusal(paths, outside / "encrypted") == refusal(paths, root / "missing")


def test_crlf_bom_and_putty(root: Path) -> None:
    paths = KeyPaths([str(root)])
    text = "\ufeff" + (root / "key").read_text().replace("\n", "\r\n")
    (root / "windows").write_bytes(text.encode())
    assert loads(paths, root / "windows")
    (root / "key.ppk").write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    assert "PuTTY" in refusal(paths, root / "key.ppk")[0]


def test_the_public_half(root: Path, outside: Path) -> None:
    paths = KeyPaths([str(root)])
    assert paths.read_public(str(root / "key")) == public(root / "key")
    assert paths.read_public(str(root / "missing")) is None
    assert paths.read_public(str(outside / "key")) is None


def test_without_roots_there_are_no_key_files(root: Path) -> None:
    said = {refusal(KeyPaths([]), path) for path in (root / "key", root / "missing", "/etc/passwd")}
    assert len(said) == 1
    message, code, hint = said.pop()
    assert (message, code) == ("Key files are turned off on this server", "KEY_FILES_OFF")
    assert "key_roots" in str(hint)
