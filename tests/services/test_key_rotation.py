"""A new key: nothing is lost, wherever the change is cut off, and nothing is left under the old one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backends.fail
import pytest
from cryptography.fernet import Fernet, InvalidToken

from runicorn_remote.errors import StateError
from runicorn_remote.services.key_rotation import rotate_key
from runicorn_remote.services.saved_connections import SavedConnections
from runicorn_remote.services.secret_box import SecretBox, is_token
from runicorn_remote.services.secret_keys import Credential, KeyFile, check_available, places
from runicorn_remote.services.system_keyring import Keyring
from runicorn_remote.settings import Settings, SettingsError
from tests.hosts.file_keyring import FileKeyring

SERVER = {"kind": "server", "id": "s", "name": "gpu", "host": "gpu", "port": 22, "username": "me"}
SECRETS = {"password": "hunter2", "passphrase": "pässphrase"}


class State:
    """A state directory with one saved server, and an entry that is shown to nobody."""

    def __init__(self, directory: Path, kind: str = "file") -> None:
        self.directory = directory
        self.path = directory / "connections.json"
        self.settings = Settings(state_dir=str(directory), secret_key=kind)

    @property
    def box(self) -> SecretBox:
        return SecretBox(*places(self.settings))

    def save(self) -> None:
        saved = SavedConnections(self.path, self.box)
        saved.replace([{**SERVER, **SECRETS}])
        hidden = {"kind": "future", "deep": [{"password": self.box.encrypt("in the depth")}]}
        self.path.write_text(json.dumps([*self.items(), hidden]))

    def items(self) -> list[Any]:
        items: list[Any] = json.loads(self.path.read_text())
        return items

    def tokens(self) -> list[str]:
        shown, hidden = self.items()
        return [*(shown[name] for name in SECRETS), hidden["deep"][0]["password"]]

    def assert_whole(self) -> None:
        """Everything can be read, by a server that starts now."""
        assert [self.box.decrypt(token) for token in self.tokens()] == [*SECRETS.values(), "in the depth"]
        server = SavedConnections(self.path, self.box).server("s")
        assert (server.password, server.passphrase, server.unreadable) == (*SECRETS.values(), ())


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture(autouse=True)
def system_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "keyring.json"
    monkeypatch.setenv("TEST_KEYRING", str(file))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield file
    keyring.set_keyring(before)


def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **keys: bytes) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir(exist_ok=True)
    for name, key in keys.items():
        (directory / name.replace("_", "-")).write_bytes(key)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))


@pytest.mark.parametrize("kind", ["file", "keyring"])
def test_everything_is_under_the_new_key_afterwards(tmp_path: Path, kind: str) -> None:
    state = State(tmp_path / "state", kind)
    state.save()
    old_key, old_tokens = state.box.keys.current(), state.tokens()
    done = rotate_key(state.path, state.box)
    assert (done.secrets, done.unreadable, done.removed) == (3, 0, ())
    state.assert_whole()
    new_key = state.box.keys.current()
    assert None not in (old_key, new_key)
    assert new_key != old_key
    assert state.box.keys.next() is None
    for token in state.tokens():
        assert Fernet(new_key or b"").decrypt(token.encode())
        with pytest.raises(InvalidToken):
            Fernet(old_key or b"").decrypt(token.encode())
    assert not set(old_tokens) & set(state.tokens())
    assert {path.stat().st_mode & 0o777 for path in state.directory.iterdir()} == {0o600}


def test_a_server_that_runs_meanwhile_keeps_its_secrets(tmp_path: Path) -> None:
    """It has looked at the file before the change, and at the key after it."""
    state = State(tmp_path / "state")
    state.save()
    saved = SavedConnections(state.path, state.box)
    stop = threading.Event()
    seen: list[bool] = []

    def look() -> None:
        while not stop.is_set():
            seen.append(saved.list()[0]["hasSavedPassword"])

    watcher = threading.Thread(target=look, name="watcher")
    watcher.start()
    for _ in range(20):
        rotate_key(state.path, state.box)
    stop.set()
    watcher.join(30)
    assert seen
    assert all(seen)


CUT_OFF = """
import os, sys
from pathlib import Path
from runicorn_remote.services.key_rotation import rotate_key
from runicorn_remote.services.secret_box import SecretBox
from runicorn_remote.services.secret_keys import places
from runicorn_remote.settings import Settings

directory, kind, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def counted(function):
    def call(*arguments, **more):
        global steps
        if steps == 0:
            os._exit(9)
        steps -= 1
        return function(*arguments, **more)
    return call

os.replace = counted(os.replace)
os.unlink = counted(os.unlink)
if kind == "keyring":
    from tests.hosts.file_keyring import FileKeyring
    FileKeyring.set_password = counted(FileKeyring.set_password)
    FileKeyring.delete_password = counted(FileKeyring.delete_password)
settings = Settings(state_dir=str(directory), secret_key=kind)
rotate_key(directory / "connections.json", SecretBox(*places(settings)))
"""


@pytest.mark.parametrize(("before", "kind"), [("file", "file"), ("file", "keyring")])
def test_a_change_that_is_cut_off_anywhere_loses_nothing(tmp_path: Path, before: str, kind: str) -> None:
    """The process is killed before its first change on disk, its second, …; each time all can be read."""
    environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "tests.hosts.file_keyring.FileKeyring"}
    for steps in range(20):
        directory = tmp_path / f"state-{steps}"
        State(directory, before).save()
        state = State(directory, kind)
        command = [sys.executable, "-c", CUT_OFF, str(directory), kind, str(steps)]
        run = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        state.assert_whole()
        assert run.returncode in (0, 9), run.stderr
        rotate_key(state.path, state.box)
        state.assert_whole()
        assert state.box.keys.next() is None
        assert (directory / ".secret.key").exists() == (kind == "file")
        if run.returncode == 0:
            break
    # The next key, the list, the current key.
    assert 3 <= steps < 19


def test_a_secret_that_no_key_opens_stays_as_it_is(state: State) -> None:
    state.save()
    lost = Fernet(Fernet.generate_key()).encrypt(b"lost").decode()
    items = state.items()
    items[0]["private_key"] = lost
    state.path.write_text(json.dumps(items))
    done = rotate_key(state.path, state.box)
    assert (done.secrets, done.unreadable) == (3, 1)
    assert state.items()[0]["private_key"] == lost


def test_a_list_that_cannot_be_read_changes_neither_it_nor_the_key(state: State) -> None:
    state.save()
    key = state.box.keys.current()
    state.path.write_text('[{"password": ')
    with pytest.raises(StateError, match=r"connections\.json cannot be read"):
        rotate_key(state.path, state.box)
    assert (state.box.keys.current(), state.box.keys.next()) == (key, None)


def test_without_anything_saved_there_is_a_new_key(state: State) -> None:
    assert rotate_key(state.path, state.box).secrets == 0
    assert is_token(state.box.encrypt("x"))


# --- the places


def test_what_was_saved_with_the_file_is_read_with_the_keyring(tmp_path: Path) -> None:
    State(tmp_path / "state").save()
    state = State(tmp_path / "state", "keyring")
    state.assert_whole()
    done = rotate_key(state.path, state.box)
    assert done.removed == (str(tmp_path / "state" / ".secret.key"),)
    assert not (tmp_path / "state" / ".secret.key").exists()
    state.assert_whole()


def test_the_way_back_from_the_keyring(tmp_path: Path, system_keyring: Path) -> None:
    State(tmp_path / "state", "keyring").save()
    state = State(tmp_path / "state")
    with pytest.raises(StateError, match="missing"):
        state.box.decrypt(state.tokens()[0])
    earlier = Keyring(str(tmp_path / "state"))
    rotate_key(state.path, SecretBox(KeyFile(tmp_path / "state" / ".secret.key"), [earlier]))
    state.assert_whole()
    assert json.loads(system_keyring.read_text()) == {}


def test_a_credential_of_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Fernet.generate_key(), Fernet.generate_key()
    State(tmp_path / "state").save()
    state = State(tmp_path / "state", "credential")
    credentials(tmp_path, monkeypatch, runicorn_remote_key=first + b"\n")
    state.assert_whole()
    rotate_key(state.path, state.box)
    assert not (tmp_path / "state" / ".secret.key").exists()
    state.assert_whole()
    # The next one: the unit has both until everything is under it.
    credentials(tmp_path, monkeypatch, runicorn_remote_key=second, runicorn_remote_key_old=first)
    state.assert_whole()
    assert rotate_key(state.path, state.box).removed == ()
    (tmp_path / "credentials" / "runicorn-remote-key-old").unlink()
    state.assert_whole()


def test_a_credential_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    settings = Settings(state_dir=str(tmp_path), secret_key="credential")
    with pytest.raises(SettingsError, match="LoadCredential"):
        check_available(settings)
    with pytest.raises(StateError, match="LoadCredential"):
        SecretBox(Credential()).encrypt("x")


def test_a_keyring_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    keyring.set_keyring(keyring.backends.fail.Keyring())
    with pytest.raises(SettingsError, match="secret_key: The keyring cannot be used: No recommended"):
        check_available(Settings(state_dir=str(tmp_path), secret_key="keyring"))


def test_a_keyring_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr("runicorn_remote.services.system_keyring._PATIENCE", 0.1)
    monkeypatch.setattr(FileKeyring, "get_password", lambda *_: answered.wait(30) and None)
    try:
        with pytest.raises(SettingsError, match=r"has not answered for 0\.1 seconds"):
            check_available(Settings(state_dir=str(tmp_path), secret_key="keyring"))
    finally:
        answered.set()


def test_two_state_directories_have_two_keys_in_the_keyring(tmp_path: Path, system_keyring: Path) -> None:
    for name in "ab":
        State(tmp_path / name, "keyring").save()
    assert len(set(json.loads(system_keyring.read_text()).values())) == 2
    assert not list(tmp_path.glob("*/.secret.key"))
