"""The box secrets are kept in: its key file, and what happens when it is not the right one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from runicorn_remote.errors import StateError
from runicorn_remote.services.secret_box import SecretBox, is_token
from runicorn_remote.services.secret_keys import KeyFile


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "runicorn" / ".secret.key"


@pytest.fixture
def box(key_file: Path) -> SecretBox:
    return SecretBox(KeyFile(key_file))


def test_a_secret_comes_back(box: SecretBox) -> None:
    token = box.encrypt("pässword")
    assert is_token(token)
    assert "ssword" not in token
    assert box.decrypt(token) == "pässword"


@settings(deadline=None, max_examples=50)
@given(text=st.text())
def test_every_text_comes_back(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    box = SecretBox(KeyFile(tmp_path_factory.getbasetemp() / "hypothesis" / ".secret.key"))
    token = box.encrypt(text)
    assert is_token(token)
    assert box.decrypt(token) == text


def test_the_key_file_is_what_runicorn_writes_and_private(box: SecretBox, key_file: Path) -> None:
    before = os.umask(0)
    try:
        token = box.encrypt("secret")
    finally:
        os.umask(before)
    assert Fernet(key_file.read_bytes()).decrypt(token.encode()) == b"secret"
    if os.name != "nt":
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700


def test_an_existing_key_is_used_and_closed_to_others(box: SecretBox, key_file: Path) -> None:
    key_file.parent.mkdir()
    key = Fernet.generate_key()
    key_file.write_bytes(key + b"\n")
    key_file.chmod(0o644)
    assert Fernet(key).decrypt(box.encrypt("secret").encode()) == b"secret"
    assert key_file.read_bytes() == key + b"\n"
    if os.name != "nt":
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 44, b"A" * 43, b"A" * 10_000])
def test_a_garbled_key_is_an_error_and_never_replaced(box: SecretBox, key_file: Path, content: bytes) -> None:
    key_file.parent.mkdir()
    token = Fernet(Fernet.generate_key()).encrypt(b"secret").decode()
    key_file.write_bytes(content)
    for use in (lambda: box.encrypt("secret"), lambda: box.decrypt(token)):
        with pytest.raises(StateError, match=r"\.secret\.key.*was not changed"):
            use()
    assert key_file.read_bytes() == content


def test_a_linked_key_is_refused(box: SecretBox, key_file: Path, tmp_path: Path) -> None:
    key_file.parent.mkdir()
    (tmp_path / "key").write_bytes(Fernet.generate_key())
    key_file.symlink_to(tmp_path / "key")
    with pytest.raises(StateError, match="symbolic link"):
        box.encrypt("secret")


def test_a_token_of_another_key_cannot_be_decrypted(box: SecretBox, key_file: Path) -> None:
    token = Fernet(Fernet.generate_key()).encrypt(b"secret").decode()
    with pytest.raises(StateError, match="is missing") as caught:
        box.decrypt(token)
    assert caught.value.code == "SECRET_UNREADABLE"
    assert not key_file.exists()
    box.encrypt("another")
    with pytest.raises(StateError, match="not the key") as caught:
        box.decrypt(token)
    assert caught.value.code == "SECRET_UNREADABLE"
    assert "secret" not in str(caught.value).replace(str(key_file), "").replace("A saved secret", "")


def test_clear_text_of_older_versions_is_read_as_it_is(box: SecretBox) -> None:
    assert box.decrypt("hunter2") == "hunter2"
    assert box.decrypt("gAAAAA-short") == "gAAAAA-short"


def test_an_obsolete_value_is_unreadable(box: SecretBox) -> None:
    with pytest.raises(StateError, match="obsolete"):
        box.decrypt("ENC:AAECAw==")


def test_threads_that_race_for_the_key_share_one(box: SecretBox) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(box.encrypt, map(str, range(32))))
    assert [box.decrypt(token) for token in tokens] == list(map(str, range(32)))


def test_processes_that_race_for_the_key_share_one(box: SecretBox, key_file: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from runicorn_remote.services.secret_box import SecretBox\n"
        "from runicorn_remote.services.secret_keys import KeyFile\n"
        "box = SecretBox(KeyFile(Path(sys.argv[1]))); print('ready', flush=True)\n"
        "sys.stdin.read(1); print(box.encrypt('from a process'))"
    )
    command = [sys.executable, "-c", script, str(key_file)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("g")
        process.stdin.flush()
    tokens = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [box.decrypt(token) for token in tokens] == ["from a process"] * 4
