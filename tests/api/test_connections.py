"""Logging in and letting go: every credential, every refusal, against a real sshd."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.services import Services
from runicorn_remote.settings import Settings
from tests.api.conftest import trust
from tests.api.user import User, faults, outcome
from tests.fakes import StandingClock
from tests.hosts.sshd import KEY_ROOTS, SshServer
from tests.ssh.tunnel_kit import TcpServer, swallow

pytestmark = pytest.mark.sshd


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    services = Services(settings, clock=StandingClock())
    yield services
    services.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=str(tmp_path / "state"), key_roots=KEY_ROOTS, connect_timeout=5.0, banner_timeout=0.3
    )


def logins(server: SshServer) -> int:
    return server.log().count("Accepted ")


# --- the host key


def test_an_unknown_host_key_is_shown_and_asked_about(stranger: User, services: Services) -> None:
    server = stranger.server
    (public_key,) = server.host_keys.values()
    answer = stranger.connect()
    assert answer.status_code == 409
    body = answer.get_json()
    assert body.pop("code") == "HOST_KEY_CONFIRMATION_REQUIRED"
    fingerprint = body["detail"]["host_key"].pop("fingerprint_sha256")
    assert body == {
        "detail": {
            "code": "HOST_KEY_CONFIRMATION_REQUIRED",
            "message": "Host key verification failed",
            "host_key": {
                "host": server.host,
                "port": server.port,
                "known_hosts_host": f"[{server.host}]:{server.port}",
                "key_type": "ssh-ed25519",
                "public_key": public_key,
                "reason": "unknown",
            },
        }
    }
    listing = subprocess.run(
        ["ssh-keygen", "-lf", "-"], input=public_key, capture_output=True, text=True, check=True, timeout=10
    )
    assert fingerprint == listing.stdout.split()[1]
    assert not services.known_hosts.file.path.exists(), "asking adds nothing"
    assert stranger.get("sessions").get_json() == {"sessions": []}


def test_asked_confirmed_and_let_in(stranger: User) -> None:
    shown = stranger.connect().get_json()["detail"]["host_key"]
    assert stranger.post("known-hosts/accept", shown).get_json() == {"ok": True}
    assert stranger.connect().status_code == 200
    (entry,) = stranger.get("known-hosts/list").get_json()["entries"]
    assert f"{entry['key_type']} {entry['key_base64']}" == shown["public_key"]


def test_a_viewer_start_asks_too(stranger: User) -> None:
    answer = stranger.start()
    assert outcome(answer) == (409, "HOST_KEY_CONFIRMATION_REQUIRED")
    assert answer.get_json()["detail"] == stranger.connect().get_json()["detail"]
    assert stranger.get("viewer/sessions").get_json() == {"sessions": []}


def test_a_changed_host_key(stranger: User, services: Services, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True, timeout=10
    )
    expected = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    path = services.known_hosts.file.path
    path.parent.mkdir(parents=True)
    path.write_text(f"[{stranger.server.host}]:{stranger.server.port} {expected}\n")
    before = path.read_bytes()
    shown = stranger.connect().get_json()["detail"]["host_key"]
    assert shown["reason"] == "changed"
    assert shown["expected_public_key"] == expected
    assert shown["expected_fingerprint_sha256"].startswith("SHA256:")
    assert shown["expected_fingerprint_sha256"] != shown["fingerprint_sha256"]
    assert shown["public_key"] == stranger.server.host_keys["ssh-ed25519"]
    assert path.read_bytes() == before
    assert stranger.post("known-hosts/accept", shown).status_code == 200
    assert stranger.connect().status_code == 200


def test_a_revoked_host_key_is_never_offered(stranger: User, services: Services) -> None:
    path = services.known_hosts.file.path
    path.parent.mkdir(parents=True)
    (line,) = stranger.server.known_hosts_lines()
    path.write_text(f"{line}\n@revoked * {line.split(' ', 1)[1]}\n")
    answer = stranger.connect()
    assert outcome(answer) == (500, "HOST_KEY_REVOKED")
    assert answer.get_json()["detail"].startswith("Connection failed: ")
    assert isinstance(answer.get_json()["detail"], str), "no key to confirm"
    assert "ssh-ed25519 AAAA" not in answer.text


def test_no_credential_reaches_a_host_whose_key_is_not_confirmed(stranger: User) -> None:
    before = logins(stranger.server)
    stranger.connect()
    assert logins(stranger.server) == before


# --- what is answered


def test_connect_sessions_disconnect(user: User) -> None:
    where = user.account()
    answer = user.connect()
    assert (answer.status_code, answer.get_json()) == (
        200,
        {"ok": True, "connection_id": user.connection_id, **where, "connected": True},
    )
    assert user.get("sessions").get_json() == {
        "sessions": [{"key": user.connection_id, **where, "connected": True}]
    }
    answer = user.disconnect()
    assert (answer.status_code, answer.get_json()) == (200, {"ok": True, "message": "Connection removed"})
    answer = user.disconnect()
    assert (answer.status_code, answer.get_json()) == (200, {"ok": False, "message": "Connection not found"})
    assert user.get("sessions").get_json() == {"sessions": []}


def test_the_same_identity_reuses_the_connection(connected: User) -> None:
    before = logins(connected.server)
    assert connected.connect().status_code == 200
    assert connected.connect(port=str(connected.server.port)).status_code == 200
    assert connected.connect(password="", private_key="", passphrase=None).status_code == 200
    assert logins(connected.server) == before


def test_another_key_of_the_same_account_logs_in_by_itself(connected: User) -> None:
    before = logins(connected.server)
    text = connected.server.client_key.read_text()
    assert connected.post("connect", connected.account(private_key=text)).status_code == 200
    assert logins(connected.server) == before + 1


def test_unknown_fields_are_ignored(user: User) -> None:
    assert user.connect(remember=True, options={"a": [1]}, timeout="soon").status_code == 200


def test_a_key_path_in_the_home(user: User, private_home: Path) -> None:
    (private_home / "key").write_bytes(user.server.client_key.read_bytes())
    answer = user.post("connect", user.account(private_key_path="~/key"))
    assert answer.status_code == 200, answer.get_json()


def test_without_anything_the_default_key_of_the_home_is_tried(user: User, private_home: Path) -> None:
    (private_home / ".ssh").mkdir(mode=0o700)
    (private_home / ".ssh" / "id_ed25519").write_bytes(user.server.client_key.read_bytes())
    assert user.post("connect", user.account()).status_code == 200
    assert user.disconnect().get_json()["ok"] is True
    answer = user.post("connect", user.account(use_agent=False))
    assert outcome(answer) == (500, "AUTH_FAILED")


# --- what cannot be used


@pytest.mark.parametrize(
    "port", [None, 0, 65536, -1, True, 22.5, "ssh", " 22", "", "2 2", "0x16", [22], "٢٢"]
)
def test_ports_that_are_none(user: User, port: Any) -> None:
    assert faults(user.connect(port=port)) == {"port"}
    assert faults(user.disconnect(port=port)) == {"port"}
    assert faults(user.start(port=port)) == {"port"}


@pytest.mark.parametrize("name", ["host", "username"])
def test_host_and_username_are_needed(user: User, name: str) -> None:
    for value in (None, ""):
        assert faults(user.connect(**{name: value})) == {name}
    for value in (5, True, ["a"], {"a": 1}, "a\0b", "\ud800"):
        assert faults(user.connect(**{name: value})) == {name}
    body = user.credentials()
    del body[name]
    assert faults(user.post("connect", body)) == {name}
    assert faults(user.post("disconnect", body)) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "a b"),
        ("host", "a,b"),
        ("host", "-oProxyCommand=x"),
        ("host", "user@host"),
        ("host", "host:22"),
        ("host", "[]"),
        ("host", "a" * 256),
        ("username", "-l root"),
        ("username", "a b"),
        ("username", "a\nb"),
        ("username", "a" * 256),
    ],
)
def test_hosts_and_usernames_that_cannot_be(user: User, name: str, value: str) -> None:
    for answer in (user.connect(**{name: value}), user.disconnect(**{name: value})):
        assert outcome(answer) == (400, "INVALID_VALUE")
        assert answer.get_json()["detail"].startswith(f"Invalid {name}: ")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("me@nowhere:22", 404, "CONNECTION_NOT_FOUND"),
        ("me@[::1]:22", 404, "CONNECTION_NOT_FOUND"),
        ("me@corp.example@nowhere:22", 404, "CONNECTION_NOT_FOUND"),
        ("nowhere:22", 400, "INVALID_CONNECTION_ID"),
        ("me@nowhere", 400, "INVALID_CONNECTION_ID"),
        ("me@nowhere:0", 400, "INVALID_CONNECTION_ID"),
        ("me@nowhere:ssh", 400, "INVALID_CONNECTION_ID"),
        ("@nowhere:22", 400, "INVALID_CONNECTION_ID"),
        ("me@:22", 400, "INVALID_CONNECTION_ID"),
        ("", 400, "INVALID_CONNECTION_ID"),
    ],
)
def test_ids_of_no_connection(user: User, query: str, status: int, code: str) -> None:
    for route in ("conda-envs", "env-configs", "config", "storage-candidates", "fs/list"):
        answer = user.get(route, connection_id=query)
        assert outcome(answer) == (status, code), route
        start = "Connection not found or inactive: " if status == 404 else "Invalid connection_id format: "
        assert answer.get_json()["detail"] == start + query
    assert outcome(user.get("fs/exists", connection_id=query, path="/")) == (status, code)


# --- keys


def encrypted_key(directory: Path, passphrase: str = "open sesame") -> Path:
    path = directory / "encrypted"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True, timeout=10
    )
    return path


@pytest.mark.parametrize(
    "text",
    [
        "not a key",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH0f/b3pvlK4ZYF0QaVeBEx1tvcxGGrlFoCAYwJdpKiy",
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
    ],
)
def test_a_key_that_cannot_be_read(user: User, text: str) -> None:
    before = user.server.log()
    answer = user.post("connect", user.account(private_key=text))
    assert outcome(answer) == (400, "KEY_UNUSABLE")
    assert text[:30] not in answer.text
    assert user.server.log() == before, "nothing was sent"


def test_a_key_file_that_cannot_be_read_says_the_same_whatever_is_wrong(user: User, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a secret of this machine\n")
    details = set()
    for path in (tmp_path / "text", tmp_path / "missing", tmp_path, Path("/etc/passwd"), Path("/dev/null")):
        answer = user.post("connect", user.account(private_key_path=str(path)))
        assert outcome(answer) == (400, "KEY_UNUSABLE")
        details.add(answer.text)
    assert len(details) == 1


def test_an_encrypted_key(user: User, tmp_path: Path) -> None:
    path = encrypted_key(tmp_path)
    for given in ({"private_key_path": str(path)}, {"private_key": path.read_text()}):
        answer = user.post("connect", user.account(**given))
        assert outcome(answer) == (400, "PASSPHRASE_REQUIRED")
        assert outcome(user.post("connect", user.account(**given, passphrase=""))) == (
            400,
            "PASSPHRASE_REQUIRED",
        )
        answer = user.post("connect", user.account(**given, passphrase="a wrong guess"))
        assert outcome(answer) == (400, "PASSPHRASE_WRONG")
        assert "a wrong guess" not in answer.text
        # The right one: now it is the host that says no.
        answer = user.post("connect", user.account(**given, passphrase="open sesame"))
        assert outcome(answer) == (500, "AUTH_FAILED")


# --- logins that fail


@pytest.mark.parametrize("secret", ["password", "private_key"])
def test_a_wrong_secret_fails_while_somebody_is_connected(
    connected: User, tmp_path: Path, secret: str
) -> None:
    wrong = {"password": "c4n4ry wrong"}
    if secret == "private_key":
        wrong = {"private_key": encrypted_key(tmp_path, "").read_text()}
    for answer in (
        connected.post("connect", connected.account(**wrong)),
        connected.post("viewer/start", connected.account(**wrong, remote_root="~/data")),
    ):
        assert outcome(answer) == (500, "AUTH_FAILED")
        assert answer.get_json()["detail"].startswith("Connection failed: Authentication failed for ")
        assert "c4n4ry" not in answer.text
    assert [each["connected"] for each in connected.get("sessions").get_json()["sessions"]] == [True]
    assert connected.ask("fs/exists", path="/").status_code == 200


def test_a_wrong_user(user: User) -> None:
    assert outcome(user.connect(username="nobody-here")) == (500, "AUTH_FAILED")


def test_nothing_to_log_in_with(user: User) -> None:
    answer = user.post("connect", user.account())
    assert outcome(answer) == (500, "AUTH_FAILED")
    assert "nothing to log in" in answer.get_json()["detail"]


def test_a_name_that_does_not_exist(user: User) -> None:
    answer = user.connect(host="nonexistent.invalid")
    assert outcome(answer) == (503, "HOST_NOT_FOUND")
    assert answer.get_json()["detail"].startswith("Connection failed: ")


def test_a_port_where_nobody_listens(user: User) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = user.connect(port=closed.getsockname()[1])
    assert outcome(answer) == (503, "CONNECTION_REFUSED")
    assert answer.get_json()["detail"].startswith("Connection failed: ")


def speaks_http(sock: socket.socket) -> None:
    sock.recv(1000)
    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def chatters(sock: socket.socket) -> None:
    """Lines without end, none of them a banner."""
    while True:
        sock.sendall(b"hello\r\n" * 100)


def hangs_up(sock: socket.socket) -> None:
    """The connection is closed at once."""


@pytest.mark.parametrize("service", [swallow, speaks_http, chatters, hangs_up], ids=lambda f: f.__name__)
def test_a_service_that_is_not_ssh(user: User, service: Callable[[socket.socket], None]) -> None:
    with TcpServer(service) as server:
        for answer in (user.connect(port=server.port), user.start(port=server.port)):
            assert outcome(answer) == (503, "NO_SSH_BANNER")
            assert answer.get_json()["detail"].startswith("Connection failed: ")
            assert answer.get_json()["hint"]


def test_an_ssh_server_that_stops_speaking_after_its_banner(user: User) -> None:
    def greets(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-Stuck\r\n")
        sock.recv(4096)

    with TcpServer(greets) as server:
        answer = user.connect(port=server.port)
    assert outcome(answer) == (503, "HANDSHAKE_CLOSED")


# --- saved servers


def save(user: User, **changes: Any) -> None:
    entry = {"kind": "server", "id": "gpu", "name": "GPU", "authMethod": "key", "createdAt": 1, **changes}
    answer = user.post("connections/saved", [{**entry, **user.account()}])
    assert answer.status_code == 200, answer.get_json()


def test_a_saved_server_supplies_everything(user: User) -> None:
    save(user, privateKeyPath=str(user.server.client_key))
    answer = user.post("connect", {"saved_server_id": "gpu"})
    assert answer.status_code == 200, answer.get_json()
    assert answer.get_json()["connection_id"] == user.connection_id


def test_a_saved_server_supplies_what_is_missing(user: User, tmp_path: Path) -> None:
    save(user, private_key=user.server.client_key.read_text())
    for given in (
        {"host": user.server.host},
        {"port": str(user.server.port), "username": user.server.username},
        {"host": "", "username": None, "password": "", "private_key": None},
        user.account(),
    ):
        answer = user.post("connect", {"saved_server_id": "gpu", **given})
        assert answer.status_code == 200, answer.get_json()
    given_key = encrypted_key(tmp_path, "").read_text()
    answer = user.post("connect", {"saved_server_id": "gpu", "private_key": given_key})
    assert outcome(answer) == (500, "AUTH_FAILED"), "what is given wins"


def test_a_saved_server_starts_viewers(user: User) -> None:
    save(user, privateKeyPath=str(user.server.client_key))
    answer = user.post(
        "viewer/start", {"saved_server_id": "gpu", "remote_root": "~/data", "conda_env": "serves"}
    )
    assert answer.status_code == 200, answer.get_json()


@pytest.mark.parametrize(("name", "value"), [("host", "other"), ("port", 1), ("username", "other")])
def test_what_differs_from_the_saved_server_is_refused(user: User, name: str, value: Any) -> None:
    save(user, privateKeyPath=str(user.server.client_key))
    answer = user.post("connect", {"saved_server_id": "gpu", **user.account(**{name: value})})
    assert outcome(answer) == (400, "SAVED_SERVER_MISMATCH")
    assert answer.get_json()["detail"] == f"Saved server mismatch for field: {name}"


def test_an_unknown_saved_server(user: User) -> None:
    answer = user.post("connect", user.credentials(saved_server_id="nope"))
    assert outcome(answer) == (404, "SAVED_SERVER_NOT_FOUND")
    assert answer.get_json()["detail"] == "Saved server not found: nope"
    assert user.connect(saved_server_id="").status_code == 200, "empty is not given"


# --- several hosts


def test_two_hosts_side_by_side(connected: User, services: Services, tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        trust(services.known_hosts.file.path, server)
        other = User(connected.client, server)
        assert other.connect().status_code == 200
        keys = [each["key"] for each in connected.get("sessions").get_json()["sessions"]]
        assert keys == [connected.connection_id, other.connection_id]
        assert connected.disconnect().get_json()["ok"] is True
        assert other.ask("fs/exists", path="/").status_code == 200
        assert other.disconnect().get_json()["ok"] is True


# --- logins that fail again and again


def test_an_account_is_left_alone_after_three_failures(user: User, services: Services) -> None:
    clock = services.clock
    assert isinstance(clock, StandingClock)
    wrong = user.account(password="c4n4ry wrong")
    for _ in range(3):
        assert outcome(user.post("connect", wrong)) == (500, "AUTH_FAILED")
    # What sshd logs before it answers; the ends of connections it logs when it comes to it.
    tried = user.server.log().count("Failed password") + user.server.log().count("Accepted")
    for answer in (user.post("connect", wrong), user.connect(), user.start()):
        assert outcome(answer) == (429, "LOGIN_BACKOFF")
        assert answer.headers["Retry-After"] == "1"
        assert "may be tried in 1 s" in answer.get_json()["detail"]
    assert user.server.log().count("Failed password") + user.server.log().count("Accepted") == tried
    clock.ahead += 1
    assert user.connect().status_code == 200
    for _ in range(3):
        assert outcome(user.post("connect", wrong)) == (500, "AUTH_FAILED")
    assert outcome(user.post("connect", wrong)) == (429, "LOGIN_BACKOFF")
    assert user.disconnect().status_code == 200
    assert user.connect().status_code == 200, "it has been let in before"
