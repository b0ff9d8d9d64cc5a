"""Secrets are seen nowhere afterwards: not in an answer, not in the log, not in a file, not in /proc.

Every route that takes a secret gets it in every way that clients, and people who paste into the wrong
field, have of sending one.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.e2e.user import ENVIRONMENT, RemoteAccount, User
from tests.hosts import processes
from tests.hosts.server import ServerProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc"),
]

PASSWORD = 'canary-Password-5f2c\\"é'
WRONG_PASSWORD = "canary-WrongPassword-81d0"
SAVED_PASSWORD = "canary-SavedPassword-c7a9"
PASSPHRASE = "canary-Passphrase-3e64 with spaces"
WRONG_PASSPHRASE = "canary-WrongPassphrase-9b1f"
BAD_KEY_LINE = "canaryBadKeyc2VjcmV0IHRoYXQgaXMgbm90IGEga2V5IGF0IGFsbA"
BAD_KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{BAD_KEY_LINE}\n-----END OPENSSH PRIVATE KEY-----\n"
NO_KEY = "canary-this-is-no-key-at-all-7d15"
TYPED_ASTRAY = "canary-Astray-60be"
TOKEN = "canary-Token-b21c" + "5d" * 16
WRONG_TOKEN = "canary-WrongToken-77e0" + "5d" * 16
LITERALS = (
    PASSWORD,
    WRONG_PASSWORD,
    SAVED_PASSWORD,
    PASSPHRASE,
    WRONG_PASSPHRASE,
    BAD_KEY_LINE,
    NO_KEY,
    TYPED_ASTRAY,
    TOKEN,
    WRONG_TOKEN,
)
# So much of a key's text is already too much.
FRAGMENT = 20

SECRET_FIELDS = ("password", "private_key", "passphrase")
REFUSALS = (400, 404, 422, 500, 503)


class Witness:
    """Sends requests and remembers every answer, head and body."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.answers: list[str] = []
        self.statuses: set[int] = set()

    def post(self, path: str, body: Any) -> requests.Response:
        return self.post_raw(path, json.dumps(body).encode())

    def post_raw(self, path: str, data: bytes, content_type: str = "application/json") -> requests.Response:
        return self.request("POST", path, data=data, headers={"Content-Type": content_type})

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        answer = self.server.request(method, f"/api/remote/{path}", **more)
        self.answers.append(f"{method} {path}: {answer.status_code} {dict(answer.headers)} {answer.text}")
        self.statuses.add(answer.status_code)
        return answer


class Keys:
    """Key texts, and the parts of them that nobody may see again."""

    def __init__(self, directory: Path) -> None:
        self.plain = self._generate(directory / "plain", "ed25519", "")
        self.encrypted = self._generate(directory / "encrypted", "ed25519", PASSPHRASE)
        self.stranger = self._generate(directory / "stranger", "rsa", "", "-m", "PEM")
        self.encrypted_path = directory / "encrypted"
        self.public = [path.read_text() for path in directory.glob("*.pub")]

    def fragments(self) -> set[str]:
        """Of the private halves: a key file holds the public one too, and what all keys begin with."""
        found = set()
        for text in (self.plain, self.encrypted, self.stranger):
            lines = text.strip().splitlines()[1:-1]
            for body in (*lines, "".join(lines)):
                found |= {body[start : start + FRAGMENT] for start in range(len(body) - FRAGMENT + 1)}
        return {fragment for fragment in found if not any(fragment in line for line in self.public)}

    def _generate(self, path: Path, key_type: str, passphrase: str, *more: str) -> str:
        command = ["ssh-keygen", "-q", "-t", key_type, "-N", passphrase, "-C", "", *more, "-f", str(path)]
        subprocess.run(command, check=True, timeout=60)
        return path.read_text()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    directory = tmp_path / "keys"
    directory.mkdir()
    return Keys(directory)


@pytest.fixture
def host(tmp_path: Path, keys: Keys) -> Iterator[EmbeddedHost]:
    """It knows PASSWORD, the plain key and the encrypted one."""
    home = tmp_path / "home"
    home.mkdir()
    RemoteAccount(home)
    allowed = [line for line in keys.public if line.startswith("ssh-ed25519")]
    with EmbeddedHost(home, password=PASSWORD, authorized_keys=allowed) as host:
        yield host


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    environment = {
        "RUNICORN_REMOTE_TOKEN_FILE": str(token),
        "RUNICORN_REMOTE_AUDIT_LOG": str(tmp_path / "log" / "audit.jsonl"),
    }
    flags = ["--log-level", "DEBUG"]
    with ServerProcess(tmp_path, flags=flags, environment=environment, token=TOKEN) as server:
        yield server


def test_secrets_are_seen_nowhere(
    server: ServerProcess, host: EmbeddedHost, keys: Keys, tmp_path: Path
) -> None:
    witness = Witness(server)
    account = {"host": host.host, "port": host.port, "username": host.username, "use_agent": False}
    User(server, {**account, "password": PASSWORD}).accept_host_key()

    log_in(witness, account, keys)
    start_viewers(witness, account, keys)
    save_connections(witness, account, keys)
    send_what_is_no_request(witness, account, keys)
    try_tokens(witness)
    # While a viewer that was started with a secret is running: nothing of it in any process there is.
    in_processes = b"".join(map(processes.command_line_and_environment, server.pids()))
    metrics = server.get("/metrics").text
    assert server.stop() == 0

    assert {200, 400, 405, 413, 415, 422, 500} <= witness.statuses, "some of the ways were not tried"
    texts = {f"answer {number}": answer for number, answer in enumerate(witness.answers)}
    texts["metrics"] = metrics
    texts["audit log"] = (tmp_path / "log" / "audit.jsonl").read_text()
    texts["log"] = server.output()
    texts["/proc"] = in_processes.decode("utf-8", "replace")
    texts.update({str(path): path.read_text("utf-8", "replace") for path in files_below(server.state_dir)})
    for name in ("log", "audit log", "metrics"):
        assert "AUTH_FAILED" in texts[name], name
    assert "gAAAAA" in texts[str(server.state_dir / "connections.json")], "nothing was saved"

    # What opens the saved secrets is in its own file and nowhere else.
    vault_key = texts.pop(str(server.state_dir / ".secret.key")).strip()
    assert len(vault_key) >= 44
    literals = (*LITERALS, vault_key)
    secrets = {form for literal in literals for form in spellings(literal)} | keys.fragments()
    found = [
        f"{where}: {secret!r} in {excerpt(text, secret)}"
        for where, text in texts.items()
        for secret in secrets
        if secret in text
    ]
    assert found == []


def log_in(witness: Witness, account: dict[str, Any], keys: Keys) -> None:
    good: list[dict[str, Any]] = [
        {"password": PASSWORD},
        {"private_key": keys.plain},
        {"private_key": keys.encrypted, "passphrase": PASSPHRASE},
        {"private_key_path": str(keys.encrypted_path), "passphrase": PASSPHRASE},
    ]
    for secrets in good:
        answer = witness.post("connect", {**account, **secrets})
        assert answer.status_code == 200, (secrets.keys(), answer.text)
    for body in bad_bodies(account, keys):
        answer = witness.post("connect", body)
        assert answer.status_code in REFUSALS, (body, answer.text)
    # A key that is refused and a password that is not: whether the second is tried is not the point here.
    witness.post("connect", {**account, "private_key": keys.stranger, "password": PASSWORD})


def start_viewers(witness: Witness, account: dict[str, Any], keys: Keys) -> None:
    viewer = {**account, "remote_root": "~/storage", "conda_env": ENVIRONMENT}
    started = witness.post(
        "viewer/start", {**viewer, "private_key": keys.encrypted, "passphrase": PASSPHRASE}
    )
    assert started.status_code == 200
    for body in bad_bodies(viewer, keys):
        answer = witness.post("viewer/start", body)
        assert answer.status_code in REFUSALS, (body, answer.text)
    # The login works, the start does not.
    for change in ({"conda_env": "none such"}, {"remote_root": "/dev/null"}, {"remote_root": 7}):
        answer = witness.post("viewer/start", {**viewer, "password": PASSWORD, **change})
        assert answer.status_code in (400, 404, 422)
    for path in ("viewer/sessions", "status", "sessions"):
        assert witness.request("GET", path).status_code == 200


def bad_bodies(good: dict[str, Any], keys: Keys) -> Iterator[dict[str, Any]]:
    """Bodies that hold a secret and cannot be served."""
    yield {**good, "password": WRONG_PASSWORD}
    yield {**good, "private_key": keys.stranger}
    yield {**good, "private_key": keys.encrypted}
    yield {**good, "private_key": keys.encrypted, "passphrase": WRONG_PASSPHRASE}
    yield {**good, "private_key_path": str(keys.encrypted_path), "passphrase": WRONG_PASSPHRASE}
    yield {**good, "private_key": BAD_KEY}
    yield {**good, "private_key": BAD_KEY, "passphrase": PASSPHRASE}
    yield {**good, "private_key": NO_KEY}
    yield {**good, "private_key": keys.plain[: len(keys.plain) // 2]}
    yield {**good, "private_key": keys.plain.replace("\n", "")}
    # Everything right but something else.
    secrets = {"password": PASSWORD, "private_key": keys.plain, "passphrase": PASSPHRASE}
    for name in ("host", "username"):
        yield {**{key: value for key, value in good.items() if key != name}, **secrets}
    for change in (
        {"port": "ssh"},
        {"port": 0},
        {"host": ["a"]},
        {"host": "no such host!"},
        {"username": "-x"},
        {"use_agent": "perhaps"},
        {"saved_server_id": "none"},
        {"port": 1},
    ):
        yield {**good, **secrets, **change}
    # Secrets of the wrong type, too long, or with characters that cannot be sent.
    for name in SECRET_FIELDS:
        for value in (
            [PASSWORD],
            {"value": PASSWORD},
            {PASSWORD: 1},
            PASSWORD + "\0",
            PASSWORD + "\ud800",
            PASSWORD * 10_000,
        ):
            yield {**good, name: value}
        yield {**good, name: [keys.plain]}
    # Pasted into the wrong field.
    for name in ("port", "use_agent"):
        yield {**good, name: TYPED_ASTRAY}
        yield {**good, name: [TYPED_ASTRAY]}
    yield {**good, "private_key_path": TYPED_ASTRAY}
    yield {**good, "private_key_path": keys.plain}
    yield {**good, "private_key": str(keys.encrypted_path), "passphrase": PASSPHRASE}


def save_connections(witness: Witness, account: dict[str, Any], keys: Keys) -> None:
    server = {
        "kind": "server",
        "id": "s1",
        "name": "one",
        **{name: account[name] for name in ("host", "port", "username")},
        "authMethod": "password",
        "createdAt": 1,
    }
    secrets = {"password": SAVED_PASSWORD, "private_key": keys.encrypted, "passphrase": PASSPHRASE}
    assert witness.post("connections/saved", [{**server, **secrets}]).status_code == 200
    assert witness.request("GET", "connections/saved").json()["connections"][0]["hasSavedPassword"] is True
    # The saved key and passphrase are tried, then the saved password, which is wrong.
    assert witness.post("connect", {"saved_server_id": "s1", "use_agent": False}).status_code == 200
    changed = {**server, "private_key": None, "passphrase": None, "password": SAVED_PASSWORD}
    assert witness.post("connections/saved", [changed]).status_code == 200
    assert witness.post("connect", {"saved_server_id": "s1", "use_agent": False}).status_code == 500
    mismatch = {"saved_server_id": "s1", "host": "elsewhere", "password": PASSWORD}
    assert witness.post("connect", mismatch).status_code == 400

    for entry in (
        {**server, **secrets, "kind": "printer"},
        {**server, **secrets, "id": None},
        {**server, **secrets, "host": 7},
        {**server, **secrets, "port": "x"},
        {name: value for name, value in {**server, **secrets}.items() if name != "kind"},
        {**server, "password": [SAVED_PASSWORD]},
        {**server, "password": {"text": SAVED_PASSWORD}},
        {**server, "private_key": [keys.plain]},
        {**server, "port": TYPED_ASTRAY},
    ):
        assert witness.post("connections/saved", [entry]).status_code in (400, 422)
    for body in (
        {"connections": [{**server, **secrets}]},
        [[{**server, **secrets}]],
        SAVED_PASSWORD,
        [keys.plain],
    ):
        assert witness.post("connections/saved", body).status_code in (400, 422)


def send_what_is_no_request(witness: Witness, account: dict[str, Any], keys: Keys) -> None:
    whole = json.dumps({**account, "password": PASSWORD, "private_key": keys.plain}).encode()
    for path in ("connect", "viewer/start", "connections/saved"):
        for data in (
            whole[:-1],
            whole + b"}",
            whole.replace(b'"password": ', b'"password" '),
            whole.replace(b'"password"', b"password"),
            b"\xff\xfe" + whole,
            json.dumps(PASSWORD).encode(),
            PASSWORD.encode(),
            keys.plain.encode(),
        ):
            assert witness.post_raw(path, data).status_code in (400, 422)
        too_large = b'{"password": ' + json.dumps(PASSWORD).encode() + b', "more": "' + b"x" * 2**20 + b'"}'
        assert witness.post_raw(path, too_large).status_code == 413
        form = b"username=demo&password=" + WRONG_PASSWORD.encode()
        assert witness.post_raw(path, form, "application/x-www-form-urlencoded").status_code == 415
        assert witness.post_raw(path, whole, "text/plain").status_code == 415
    for path in ("connect", "viewer/start"):
        assert witness.request("GET", path, params={"password": WRONG_PASSWORD}).status_code == 405
    assert witness.request("PUT", "connections/saved", json={"password": PASSWORD}).status_code == 405


def try_tokens(witness: Witness) -> None:
    for value in (f"Bearer {WRONG_TOKEN}", f"Basic {TOKEN}", f"bearer  {TOKEN}x", WRONG_TOKEN, TOKEN):
        headers = {"Authorization": value}
        assert witness.request("GET", "status", headers=headers).status_code == 401
        assert witness.server.request("GET", "/metrics", headers=headers).status_code == 401


def spellings(secret: str) -> set[str]:
    """A secret as it is, in JSON, in Python, as bytes, in a URL and in base64."""
    raw = secret.encode()
    found = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {repr(secret)[1:-1], ascii(secret)[1:-1], repr(raw)[2:-1]}
    found |= {requests.utils.quote(secret), base64.b64encode(raw).decode().rstrip("=")[:-1]}
    return found


def files_below(directory: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]


def excerpt(text: str, secret: str) -> str:
    start = text.index(secret)
    return repr(text[max(0, start - 200) : start + 200])
