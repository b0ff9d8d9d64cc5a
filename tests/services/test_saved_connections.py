"""Saved connections: Runicorn's own file, its secrets, and the merge of a posted list."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from runicorn_remote.errors import InvalidValue, SavedServerNotFound, StateError
from runicorn_remote.redaction import Redactor
from runicorn_remote.services.saved_connections import MAX_ENTRIES, SavedConnections
from runicorn_remote.services.saved_entries import _SPELLINGS, FLAGS, SECRET_FIELDS, to_json
from runicorn_remote.services.secret_box import SecretBox, is_token
from runicorn_remote.services.secret_keys import KeyFile

KEY_TEXT = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"


def server(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "server",
        "id": "srv_me_gpu_22",
        "name": "gpu box",
        "host": "gpu",
        "port": 22,
        "username": "me",
        "authMethod": "password",
        "createdAt": 1700000000000,
        **fields,
    }


def profile(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "connection",
        "id": "conn_1700000000000_abcdefghi",
        "serverId": "srv_me_gpu_22",
        "name": "torch",
        "condaEnv": "torch",
        "remoteRoot": "/home/me/runs",
        "localPort": None,
        "createdAt": 1700000000001,
        **fields,
    }


class Shelf:
    """A state directory and what is done to it from outside."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.directory = home / "runicorn"
        self.path = self.directory / "connections.json"
        self.redactor = Redactor()
        self.box = SecretBox(KeyFile(self.directory / ".secret.key"))
        self.saved = SavedConnections(self.path, self.box, self.redactor)

    def items(self) -> list[Any]:
        return json.loads(self.path.read_text("utf-8"))

    def item(self, entry_id: str = "srv_me_gpu_22") -> dict[str, Any]:
        return next(item for item in self.items() if item["id"] == entry_id)

    def write(self, items: Any) -> bytes:
        self.directory.mkdir(parents=True, exist_ok=True)
        text = items if isinstance(items, str) else json.dumps(items)
        self.path.write_text(text, "utf-8")
        return self.path.read_bytes()

    def runicorn(self, code: str) -> Any:
        """Run code with Runicorn's own functions on this directory; what it puts into `result`."""
        script = (
            "import json, sys\n"
            "from runicorn.config import load_saved_connections, save_connections\n"
            "from runicorn.viewer.api.remote.credentials import mask_saved_entry, get_saved_server\n"
            f"{code}\njson.dump(result, sys.stdout)"
        )
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.home), "HOME": str(self.home)}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_there_is_nothing_before_the_first_save(shelf: Shelf) -> None:
    assert shelf.saved.list() == []
    assert not shelf.directory.exists()


def test_entries_come_back_with_flags_in_place_of_secrets(shelf: Shelf) -> None:
    shelf.saved.replace(
        [server(password="hunter2", passphrase="open sesame", private_key=KEY_TEXT), profile()]
    )
    flags = dict.fromkeys(FLAGS.values(), True)
    assert shelf.saved.list() == [server(**flags), profile()]


def test_a_server_has_all_three_flags(shelf: Shelf) -> None:
    shelf.saved.replace([server(privateKeyPath="~/.ssh/id_ed25519")])
    [entry] = shelf.saved.list()
    assert [entry[flag] for flag in FLAGS.values()] == [False, True, False]
    assert entry["privateKeyPath"] == "~/.ssh/id_ed25519"


def test_no_secret_is_in_clear_in_the_file_or_in_the_list(shelf: Shelf) -> None:
    secrets = {name: f"canary-{name}" for name in (*SECRET_FIELDS, "privateKey")}
    shelf.saved.replace([server(**secrets), profile(**secrets)])
    assert "canary" not in shelf.path.read_text("utf-8")
    assert "canary" not in json.dumps(shelf.saved.list())
    assert all(is_token(item[name]) for item in shelf.items() for name in SECRET_FIELDS)


def test_the_file_is_private_from_its_creation(shelf: Shelf) -> None:
    before = os.umask(0)
    try:
        shelf.saved.replace([server(password="hunter2")])
    finally:
        os.umask(before)
    if os.name != "nt":
        for path in shelf.directory.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(shelf.directory.stat().st_mode) == 0o700


def test_every_secret_is_known_to_the_redactor(shelf: Shelf) -> None:
    shelf.saved.replace([server(password="hunter2")])
    assert shelf.redactor.redact("it was hunter2") == "it was [redacted]"
    later = Redactor()
    SavedConnections(shelf.path, shelf.box, later).server("srv_me_gpu_22")
    assert later.redact("it was hunter2") == "it was [redacted]"


def test_a_server_is_found_with_its_secrets(shelf: Shelf) -> None:
    shelf.saved.replace(
        [
            profile(),
            server(password="hunter2", private_key=KEY_TEXT, passphrase="sesame", private_key_path="~/k"),
        ]
    )
    found = shelf.saved.server("srv_me_gpu_22")
    assert (found.host, found.port, found.username, found.auth_method) == ("gpu", 22, "me", "password")
    assert (found.password, found.private_key, found.passphrase) == ("hunter2", KEY_TEXT, "sesame")
    assert (found.private_key_path, found.unreadable) == ("~/k", ())
    assert "hunter2" not in repr(found)
    assert "sesame" not in repr(found)


@pytest.mark.parametrize("server_id", ["conn_1700000000000_abcdefghi", "no such", "", "\ud800", "x" * 5000])
def test_an_unknown_server_is_not_found(shelf: Shelf, server_id: str) -> None:
    shelf.saved.replace([server(), profile()])
    with pytest.raises(SavedServerNotFound):
        shelf.saved.server(server_id)


class TestMerge:
    """What a posted list does to the stored secrets."""

    @pytest.fixture(autouse=True)
    def stored(self, shelf: Shelf) -> None:
        shelf.saved.replace(
            [server(password="old", private_key=KEY_TEXT, passphrase="sesame", privateKeyPath="~/k")]
        )

    @pytest.mark.parametrize("name", FLAGS)
    @pytest.mark.parametrize("flag", [True, None, "false", 0])
    def test_an_absent_secret_is_kept(self, shelf: Shelf, name: str, flag: Any) -> None:
        before = shelf.item()[name]
        shelf.saved.replace([server(**{FLAGS[name]: flag})])
        assert shelf.item()[name] == before
        shelf.saved.replace([server()])
        assert shelf.item()[name] == before

    @pytest.mark.parametrize("name", FLAGS)
    @pytest.mark.parametrize("value", [None, ""])
    def test_null_and_an_empty_text_forget(self, shelf: Shelf, name: str, value: str | None) -> None:
        shelf.saved.replace([server(**{name: value, FLAGS[name]: True})])
        assert name not in shelf.item()
        assert set(shelf.item()) >= set(FLAGS) - {name}

    @pytest.mark.parametrize("name", FLAGS)
    def test_a_false_flag_without_a_secret_forgets(self, shelf: Shelf, name: str) -> None:
        shelf.saved.replace([server(**{FLAGS[name]: False})])
        assert name not in shelf.item()
        assert set(shelf.item()) >= set(FLAGS) - {name}

    @pytest.mark.parametrize("flag", [True, False])
    def test_a_new_secret_counts_whatever_its_flag_says(self, shelf: Shelf, flag: bool) -> None:
        shelf.saved.replace([server(password="new", hasSavedPassword=flag)])
        assert shelf.saved.server("srv_me_gpu_22").password == "new"

    def test_what_was_listed_can_be_posted_back(self, shelf: Shelf) -> None:
        before = shelf.items()
        shelf.saved.replace(shelf.saved.list())
        assert shelf.items() == before

    def test_the_key_path_is_kept_when_absent(self, shelf: Shelf) -> None:
        shelf.saved.replace([server()])
        assert shelf.saved.list()[0]["privateKeyPath"] == "~/k"

    @pytest.mark.parametrize("change", [{"privateKeyPath": None}, {"hasSavedPrivateKey": False}])
    def test_the_key_path_is_forgotten(self, shelf: Shelf, change: dict[str, Any]) -> None:
        shelf.saved.replace([server(**change)])
        assert "privateKeyPath" not in shelf.saved.list()[0]

    def test_a_removed_entry_is_gone_with_its_secrets(self, shelf: Shelf) -> None:
        shelf.saved.replace([profile()])
        assert [item["kind"] for item in shelf.items()] == ["connection"]
        shelf.saved.replace([profile(), server()])
        assert shelf.saved.server("srv_me_gpu_22").password is None

    def test_an_id_the_frontend_changed_keeps_its_secrets(self, shelf: Shelf) -> None:
        shelf.saved.replace([server(id="gpu-box", password="by a script")])
        [entry] = shelf.saved.list()
        shelf.saved.replace([{**entry, "id": "srv_me_gpu_22"}])
        assert shelf.saved.server("srv_me_gpu_22").password == "by a script"

    def test_secrets_never_move_to_another_account_or_a_copy(self, shelf: Shelf) -> None:
        flags = dict.fromkeys(FLAGS.values(), True)
        shelf.saved.replace([server(), server(id="copy", **flags), server(id="other", host="evil", **flags)])
        assert [shelf.saved.server(name).password for name in ("copy", "other")] == [None, None]

    def test_secrets_the_frontend_does_not_know_are_kept_too(self, shelf: Shelf) -> None:
        shelf.saved.replace([server(token="tok-1", api_key="key-1")])
        before = shelf.item()
        shelf.saved.replace(shelf.saved.list())
        assert {name: shelf.item()[name] for name in ("token", "api_key")} == {
            name: before[name] for name in ("token", "api_key")
        }

    def test_a_restored_backup_is_taken_as_it_is(self, shelf: Shelf) -> None:
        backup = shelf.items()
        shelf.saved.replace([])
        shelf.saved.replace(backup)
        assert shelf.items() == backup


class TestLostKey:
    """The key file is gone or another: nothing is shown, nothing is lost."""

    @pytest.fixture(autouse=True)
    def lost(self, shelf: Shelf) -> None:
        shelf.saved.replace([server(password="old", passphrase="sesame")])
        self.token = shelf.item()["password"]
        self.key = (shelf.directory / ".secret.key").read_bytes()
        (shelf.directory / ".secret.key").unlink()

    def test_the_server_is_listed_as_without_secrets(self, shelf: Shelf) -> None:
        [entry] = shelf.saved.list()
        assert [entry[flag] for flag in FLAGS.values()] == [False, False, False]
        found = shelf.saved.server("srv_me_gpu_22")
        assert (found.password, found.unreadable) == (None, ("password", "passphrase"))
        assert not (shelf.directory / ".secret.key").exists()

    def test_posting_the_list_back_keeps_the_tokens(self, shelf: Shelf) -> None:
        shelf.saved.replace([*shelf.saved.list(), server(id="srv_me_b_22", host="b", password="new")])
        assert shelf.item()["password"] == self.token
        (shelf.directory / ".secret.key").write_bytes(self.key)
        assert shelf.saved.server("srv_me_gpu_22").password == "old"

    def test_null_forgets_and_a_new_secret_replaces(self, shelf: Shelf) -> None:
        shelf.saved.replace([server(password="new", passphrase=None)])
        assert shelf.saved.server("srv_me_gpu_22").password == "new"
        assert "passphrase" not in shelf.item()

    def test_a_garbled_key_hides_no_entry_and_stops_new_secrets(self, shelf: Shelf) -> None:
        (shelf.directory / ".secret.key").write_bytes(b"garbage")
        [entry] = shelf.saved.list()
        shelf.saved.replace([{**entry, "name": "renamed"}])
        before = shelf.path.read_bytes()
        with pytest.raises(StateError, match=r"\.secret\.key"):
            shelf.saved.replace([{**entry, "password": "new"}])
        assert shelf.path.read_bytes() == before
        assert shelf.item()["password"] == self.token


class TestFile:
    """What else may be in the file."""

    def test_other_kinds_are_kept_and_never_shown(self, shelf: Shelf) -> None:
        strange = [
            {"kind": "group", "id": "g", "members": [1, {"password": "x"}], "created_at": 1},
            {"kind": "server", "id": "srv__none"},
            server(port="many"),
            {"kind": ["server"]},
            "text",
            None,
        ]
        shelf.write([*strange[:3], profile(), *strange[3:]])
        assert shelf.saved.list() == [profile()]
        shelf.saved.replace([server()])
        assert shelf.items() == [server(), *strange]

    def test_a_second_entry_with_the_same_id_is_hidden(self, shelf: Shelf) -> None:
        shelf.write([server(), server(host="other")])
        assert [entry["host"] for entry in shelf.saved.list()] == ["gpu"]
        shelf.saved.replace(shelf.saved.list())
        assert [item["host"] for item in shelf.items()] == ["gpu", "other"]

    def test_snake_case_and_clear_text_of_older_versions(self, shelf: Shelf) -> None:
        entry = server(password="hunter2", passphrase="sesame", private_key_path="~/k", port="2222")
        entry["created_at"], entry["auth_method"] = entry.pop("createdAt"), entry.pop("authMethod")
        shelf.write([entry])
        flags = dict.fromkeys(FLAGS.values(), True)
        assert shelf.saved.list() == [server(port=2222, privateKeyPath="~/k", **flags)]
        shelf.saved.replace(shelf.saved.list())
        assert is_token(shelf.item()["password"])
        assert is_token(shelf.item()["passphrase"])
        assert shelf.saved.server("srv_me_gpu_22").passphrase == "sesame"

    def test_an_obsolete_secret_is_kept(self, shelf: Shelf) -> None:
        shelf.write([server(password="ENC:AAECAw==")])
        assert shelf.saved.list()[0]["hasSavedPassword"] is False
        shelf.saved.replace(shelf.saved.list())
        assert shelf.item()["password"] == "ENC:AAECAw=="

    def test_the_older_form_becomes_a_server_and_a_profile(self, shelf: Shelf) -> None:
        older = {
            "id": "conn_1",
            "name": "torch",
            "host": "gpu.lab",
            "port": "2222",
            "username": "me",
            "password": "hunter2",
            "condaEnv": "torch",
            "remoteRoot": "/runs",
            "note": {"kept": True},
            "created_at": 17,
        }
        raw = shelf.write([older])
        expected_server = {
            "kind": "server",
            "id": "srv_me_gpu_lab_2222",
            "name": "me@gpu.lab:2222",
            "authMethod": "password",
            "host": "gpu.lab",
            "port": 2222,
            "username": "me",
            "createdAt": 17,
            "hasSavedPassword": True,
            "hasSavedPrivateKey": False,
            "hasSavedPassphrase": False,
        }
        expected_profile = {
            "kind": "connection",
            "id": "conn_1",
            "serverId": "srv_me_gpu_lab_2222",
            "name": "torch",
            "condaEnv": "torch",
            "remoteRoot": "/runs",
            "note": {"kept": True},
            "createdAt": 17,
        }
        assert shelf.saved.list() == [expected_server, expected_profile]
        assert shelf.path.read_bytes() == raw
        shelf.saved.replace(shelf.saved.list())
        assert [item["kind"] for item in shelf.items()] == ["server", "connection"]
        assert shelf.saved.server("srv_me_gpu_lab_2222").password == "hunter2"

    def test_the_older_form_completes_a_known_server(self, shelf: Shelf) -> None:
        older = {"id": "conn_1", "host": "gpu", "username": "me", "password": "hunter2", "name": "torch"}
        shelf.write([older, server(id="mine")])
        assert [(entry["kind"], entry["id"]) for entry in shelf.saved.list()] == [
            ("server", "mine"),
            ("connection", "conn_1"),
        ]
        assert shelf.saved.list()[1]["serverId"] == "mine"
        assert shelf.saved.server("mine").password == "hunter2"

    @pytest.mark.parametrize(
        "content",
        ["", "[", "{}", "null", '"text"', "[1, 2", "[" * 100_000, "\ufeff[]", "[" + "9" * 5000 + "]"],
    )
    def test_a_file_that_is_no_list_is_never_overwritten(self, shelf: Shelf, content: str) -> None:
        raw = shelf.write(content)
        for use in (
            shelf.saved.list,
            lambda: shelf.saved.replace([server()]),
            lambda: shelf.saved.server("srv_me_gpu_22"),
        ):
            with pytest.raises(StateError, match=r"connections\.json cannot be read: .* It was not changed"):
                use()
        assert shelf.path.read_bytes() == raw

    def test_bytes_that_are_no_text_are_never_overwritten(self, shelf: Shelf) -> None:
        shelf.directory.mkdir()
        shelf.path.write_bytes(b'[{"kind": "\xff"}]')
        with pytest.raises(StateError, match="cannot be read"):
            shelf.saved.replace([server()])
        assert shelf.path.read_bytes() == b'[{"kind": "\xff"}]'

    def test_numbers_json_does_not_have_become_null(self, shelf: Shelf) -> None:
        shelf.write('[{"kind": "connection", "id": "c", "a": NaN, "b": [-Infinity, 1e999, 0.5]}]')
        assert shelf.saved.list() == [{"kind": "connection", "id": "c", "a": None, "b": [None, None, 0.5]}]
        shelf.saved.replace(shelf.saved.list())

    def test_text_that_is_no_unicode_is_kept_out_of_sight(self, shelf: Shelf) -> None:
        broken = profile(note="\ud800")
        shelf.write([broken])
        assert shelf.saved.list() == []
        shelf.saved.replace([server(name="gerät")])
        assert shelf.items() == [server(name="gerät"), broken]

    def test_deep_entries_of_other_kinds_lose_nothing(self, shelf: Shelf) -> None:
        raw = shelf.write('[{"kind": "group", "deep": ' + "[" * 900 + "]" * 900 + "}]")
        assert shelf.saved.list() == []
        try:
            shelf.saved.replace([server()])
        except StateError:
            assert shelf.path.read_bytes() == raw
        else:
            assert len(shelf.items()) == 2

    def test_a_linked_file_is_refused(self, shelf: Shelf, tmp_path: Path) -> None:
        shelf.directory.mkdir()
        (tmp_path / "elsewhere").write_text("[]")
        shelf.path.symlink_to(tmp_path / "elsewhere")
        for use in (shelf.saved.list, lambda: shelf.saved.replace([server()])):
            with pytest.raises(StateError, match="symbolic link"):
                use()
        assert (tmp_path / "elsewhere").read_text() == "[]"

    def test_it_is_as_readable_as_runicorns(self, shelf: Shelf) -> None:
        shelf.saved.replace([server(name="gerät")])
        assert shelf.path.read_bytes() == to_json([server(name="gerät")])
        assert b'[\n  {\n    "kind": "server",' in shelf.path.read_bytes()
        assert "gerät".encode() in shelf.path.read_bytes()


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("text", "is not an object"),
        (None, "is not an object"),
        ([], "is not an object"),
        ({}, "its kind is neither"),
        (server(kind="group"), "its kind is neither"),
        (server(kind=["server"]), "its kind is neither"),
        ({"id": "c", "host": "gpu", "username": "me"}, "its kind is neither"),
        (server(id=None), "id is missing"),
        (server(id=""), "id is missing"),
        (server(id=7), "id is not text"),
        (server(id="a\nb"), "id has control characters"),
        (profile(id=" "), "id is blank"),
        (server(host=None), "host is missing"),
        (server(host={"x": 1}), "host is not text"),
        (server(host="x" * 2000), "host is longer"),
        (server(username=""), "username is missing"),
        (server(username="a\x00b"), "username has control characters"),
        (server(port=0), "port is not a number from 1 to 65535"),
        (server(port=65536), "port is not"),
        (server(port=True), "port is not"),
        (server(port="22 "), "port is not"),
        (server(port="٢٢"), "port is not"),
        (server(port=22.5), "port is not"),
        (server(port=[22]), "port is not"),
        (server(password=["hunter2"]), "password is neither text nor null"),
        (server(private_key=5), "private_key is neither"),
        (server(privateKey={"a": 1}), "private_key is neither"),
        (profile(token=1), "token is neither"),
        (server(privateKeyPath=1), "privateKeyPath is neither"),
        (server(name={"first": "x"}), "name is neither text nor a number"),
        (profile(remoteRoot=["/runs"]), "remoteRoot is neither"),
        (server(host="\ud800"), "not valid Unicode"),
        (server(password="\ud800"), "not valid Unicode"),
        (profile(note={"deep": ["\udfff"]}), "not valid Unicode"),
        (profile(note=float("nan")), "a number that JSON does not have"),
        (profile(note=[float("inf")]), "a number that JSON does not have"),
        (profile(note=nested(101)), "nested more than 100"),
        (profile(note=nested(50_000)), "nested more than 100"),
        (server(), "another entry has the same id"),
    ],
)
def test_an_entry_that_cannot_be_saved_is_named(shelf: Shelf, entry: Any, problem: str) -> None:
    shelf.saved.replace([server(id="before")])
    raw = shelf.path.read_bytes()
    with pytest.raises(InvalidValue, match=problem) as caught:
        shelf.saved.replace([server(), entry])
    assert str(caught.value).startswith("Entry 2 of the list")
    assert "hunter2" not in str(caught.value)
    assert shelf.path.read_bytes() == raw


def test_the_message_shows_the_name_and_no_secret(shelf: Shelf) -> None:
    with pytest.raises(
        InvalidValue, match=r'^Entry 1 of the list \("gpu box"\) cannot be saved: host is missing'
    ):
        shelf.saved.replace([server(host="", password="hunter2")])
    with pytest.raises(InvalidValue) as caught:
        shelf.saved.replace([server(name="pw hunter2\nforged", host="", password="hunter2")])
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entries", [{}, None, "text", 5])
def test_what_is_no_list_is_refused(shelf: Shelf, entries: Any) -> None:
    with pytest.raises(InvalidValue, match="JSON array"):
        shelf.saved.replace(entries)


def test_the_list_has_a_limit(shelf: Shelf) -> None:
    entries = [profile(id=f"c{number}") for number in range(MAX_ENTRIES)]
    shelf.saved.replace(entries)
    assert len(shelf.saved.list()) == MAX_ENTRIES
    with pytest.raises(InvalidValue, match="1001 entries"):
        shelf.saved.replace([*entries, server()])


def test_the_usual_spelling_counts_if_both_are_given(shelf: Shelf) -> None:
    shelf.saved.replace([server(privateKeyPath="~/new", private_key_path="~/old")])
    [entry] = shelf.saved.list()
    assert entry["privateKeyPath"] == "~/new"
    assert "private_key_path" not in entry


def test_a_server_and_a_profile_may_share_an_id(shelf: Shelf) -> None:
    shelf.saved.replace([server(id="x"), profile(id="x")])
    assert len(shelf.saved.list()) == 2


def test_ports_are_numbers_afterwards(shelf: Shelf) -> None:
    shelf.saved.replace([server(id=str(port), port=port) for port in ("2222", 22.0, None)])
    assert [entry["port"] for entry in shelf.saved.list()] == [2222, 22, 22]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
known_names = {
    *server(),
    *profile(),
    *SECRET_FIELDS,
    *FLAGS.values(),
    *_SPELLINGS,
    "privateKeyPath",
    "remotePort",
}
extra_fields = st.dictionaries(
    st.text().filter(lambda name: name not in known_names), json_values, max_size=6
)


@settings(deadline=None, max_examples=60)
@given(of_server=extra_fields, of_profile=extra_fields)
def test_unknown_fields_survive(
    of_server: dict[str, Any], of_profile: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    shelf = Shelf(tmp_path_factory.getbasetemp() / "unknown-fields")
    shelf.saved.replace([{**of_server, **server(password="hunter2")}, {**of_profile, **profile()}])
    flags = {"hasSavedPassword": True, "hasSavedPrivateKey": False, "hasSavedPassphrase": False}
    listed = shelf.saved.list()
    assert listed == [{**of_server, **server(**flags)}, {**of_profile, **profile()}]
    raw = shelf.path.read_bytes()
    shelf.saved.replace(listed)
    assert shelf.path.read_bytes() == raw


class TestRunicorn:
    """Runicorn's own functions and ours on one file."""

    def test_runicorn_reads_what_we_write(self, shelf: Shelf) -> None:
        extra = {"tags": ["a", {"b": None}], "größe": 1.5}
        shelf.saved.replace(
            [server(password="pässword", private_key=KEY_TEXT, token="tok-1", **extra), profile(**extra)]
        )
        raw = shelf.path.read_bytes()
        loaded = shelf.runicorn("result = load_saved_connections()")
        assert loaded == [
            server(password="pässword", private_key=KEY_TEXT, token="tok-1", **extra),
            profile(**extra),
        ]
        assert shelf.path.read_bytes() == raw
        assert shelf.runicorn("result = get_saved_server('srv_me_gpu_22')")["password"] == "pässword"

    def test_we_read_what_runicorn_writes(self, shelf: Shelf) -> None:
        entries = [server(password="pässword", passphrase="sesame", extra=[1]), profile()]
        masked = shelf.runicorn(
            f"save_connections(json.loads({json.dumps(entries)!r}))\n"
            "result = [mask_saved_entry(entry) for entry in load_saved_connections()]"
        )
        assert shelf.saved.list() == masked
        assert shelf.saved.server("srv_me_gpu_22").password == "pässword"
        raw = shelf.items()
        shelf.saved.replace(shelf.saved.list())
        assert shelf.items() == raw

    def test_both_turn_the_older_form_into_the_same_entries(self, shelf: Shelf) -> None:
        older = {
            "id": "conn_1",
            "name": "torch",
            "host": "gpu.lab",
            "port": 2222,
            "username": "me",
            "password": "hunter2",
            "auth_method": "password",
            "condaEnv": "torch",
            "remoteRoot": "/runs",
            "localPort": 1,
            "remotePort": 2,
            "createdAt": 17,
        }
        shelf.write([older])
        ours = shelf.saved.list()
        theirs = shelf.runicorn("result = [mask_saved_entry(entry) for entry in load_saved_connections()]")
        assert [
            {name: value for name, value in entry.items() if value is not None} for entry in theirs
        ] == ours


def test_concurrent_saves_leave_one_of_the_lists_whole(shelf: Shelf) -> None:
    lists = [
        [server(id=f"s{number}", host=f"h{number}", password=f"secret-{number}"), profile(id=f"c{number}")]
        for number in range(12)
    ]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(shelf.saved.replace, lists))
    listed = shelf.saved.list()
    [number] = {entry["id"][1:] for entry in listed}
    assert [entry["kind"] for entry in listed] == ["server", "connection"]
    assert shelf.saved.server(f"s{number}").password == f"secret-{number}"
    assert not [path for path in os.listdir(shelf.directory) if path.endswith(".tmp")]


def test_concurrent_processes_keep_every_secret(shelf: Shelf) -> None:
    """Each process renames the server again and again, as a client does; none of them sends its password."""
    shelf.saved.replace([server(password="hunter2")])
    script = """
import sys
from pathlib import Path
from runicorn_remote.services.saved_connections import SavedConnections
from runicorn_remote.services.secret_box import SecretBox
from runicorn_remote.services.secret_keys import KeyFile
path = Path(sys.argv[1])
saved = SavedConnections(path, SecretBox(KeyFile(path.with_name(".secret.key"))), lock_timeout=60)
for number in range(20):
    saved.replace([{**saved.list()[0], "name": sys.argv[2] + str(number)}])
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(shelf.path), name], stderr=subprocess.PIPE)
        for name in "abc"
    ]
    for process in processes:
        _, complaints = process.communicate(timeout=100)
        assert (process.returncode, complaints) == (0, b"")
    assert shelf.saved.server("srv_me_gpu_22").password == "hunter2"
    assert shelf.saved.list()[0]["name"] in {"a19", "b19", "c19"}


def test_a_lock_held_elsewhere_is_an_error_and_changes_nothing(shelf: Shelf) -> None:
    shelf.saved.replace([server()])
    raw = shelf.path.read_bytes()
    hold = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, f"{shelf.path}.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        impatient = SavedConnections(shelf.path, shelf.box, lock_timeout=0.1)
        with pytest.raises(StateError) as caught:
            impatient.replace([])
        assert caught.value.code == "STATE_LOCKED"
        assert len(impatient.list()) == 1
        assert shelf.path.read_bytes() == raw
    finally:
        holder.communicate(timeout=30)


def test_a_full_disk_leaves_the_old_list(shelf: Shelf) -> None:
    shelf.saved.replace([server(password="hunter2")])
    raw = shelf.path.read_bytes()
    script = """
import resource, sys
from pathlib import Path
from runicorn_remote.errors import StateError
from runicorn_remote.services.saved_connections import SavedConnections
from runicorn_remote.services.secret_box import SecretBox
from runicorn_remote.services.secret_keys import KeyFile
path = Path(sys.argv[1])
saved = SavedConnections(path, SecretBox(KeyFile(path.with_name(".secret.key"))))
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
try:
    saved.replace([{**saved.list()[0], "password": "x" * 10_000}])
except StateError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(shelf.path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "connections.json cannot be written" in run.stdout
    assert "It was not changed" in run.stdout
    assert shelf.path.read_bytes() == raw
    assert sorted(os.listdir(shelf.directory)) == [".secret.key", "connections.json", "connections.json.lock"]


def test_a_new_secret_that_looks_like_a_token_is_a_text_like_any_other(shelf: Shelf) -> None:
    foreign = Fernet(Fernet.generate_key()).encrypt(b"secret").decode()
    shelf.saved.replace([server(password=foreign)])
    assert shelf.item()["password"] != foreign
    assert shelf.saved.server("srv_me_gpu_22").password == foreign


class TestAServerThatStoresNoSecrets:
    @pytest.fixture(autouse=True)
    def stored(self, shelf: Shelf) -> None:
        """There are some of earlier, one of them in an entry that is shown to nobody."""
        shelf.saved.replace([server(password="hunter2", api_key="k", privateKeyPath="/k")])
        shelf.write([*shelf.items(), {"kind": "future", "password": "clear"}])
        self.stores = shelf.saved
        shelf.saved = SavedConnections(shelf.path, shelf.box, shelf.redactor, store_secrets=False)

    def test_those_in_the_file_are_not_used(self, shelf: Shelf) -> None:
        assert shelf.saved.has_secrets()
        [entry] = shelf.saved.list()
        assert (entry["hasSavedPassword"], entry["hasSavedPrivateKey"]) == (False, True)
        found = shelf.saved.server("srv_me_gpu_22")
        assert (found.password, found.private_key_path, found.unreadable) == (None, "/k", ())

    def test_they_are_there_again_with_the_setting(self, shelf: Shelf) -> None:
        shelf.saved.list()
        assert self.stores.server("srv_me_gpu_22").password == "hunter2"

    def test_the_next_save_removes_them(self, shelf: Shelf) -> None:
        assert shelf.saved.replace(shelf.saved.list())
        assert not shelf.saved.has_secrets()
        [shown, hidden] = shelf.items()
        assert not set(SECRET_FIELDS) & {*shown, *hidden}
        assert (shown["privateKeyPath"], hidden["kind"]) == ("/k", "future")

    def test_new_ones_are_dropped_and_that_is_told(self, shelf: Shelf) -> None:
        assert not shelf.saved.replace([server(password="correct horse")])
        assert "password" not in shelf.item()
        assert shelf.redactor.redact("correct horse") != "correct horse"
