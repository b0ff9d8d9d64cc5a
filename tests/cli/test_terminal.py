"""The client verbs in a real terminal: what they ask, show and hide."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import requests

from runicorn_remote.client import RunicornRemoteClient
from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.cli.conftest import ENVIRONMENT
from tests.cli.terminal import CTRL_C, Terminal
from tests.client.conftest import accept, believe, encrypted_key, fingerprint
from tests.hosts.server import ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

QUESTION = "Are you sure you want to continue connecting (yes/no/[fingerprint])? "
PHASES = ("connecting", "preparing", "launching", "waiting", "ready")


def fingerprint_of(host: SshServer) -> str:
    return fingerprint(host.host_keys["ssh-ed25519"])


def trust_another_key(server: ServerProcess, host: SshServer, tmp_path: Path) -> str:
    """Have the server believe that the host has another key; that key's fingerprint."""
    public = encrypted_key(tmp_path / "other", "").with_name("other.pub").read_text()
    key_type, key = public.split()[:2]
    other = f"{key_type} {key}"
    believe(server, host, other)
    return fingerprint(other)


# --- an unknown host key


def test_yes(
    server: ServerProcess,
    host: SshServer,
    target: str,
    identity: tuple[str, str],
    client: RunicornRemoteClient,
) -> None:
    with Terminal("--url", server.url, "connect", target, *identity) as terminal:
        terminal.expect(f"The authenticity of host '{host.host}:{host.port}' can't be established.")
        terminal.expect(f"ED25519 key fingerprint is {fingerprint_of(host)}.")
        terminal.expect(QUESTION)
        terminal.type("perhaps")
        terminal.expect("Please type 'yes', 'no' or the fingerprint: ")
        terminal.type("yes")
        terminal.expect(f"Connected to {target}")
        assert terminal.wait() == 0
    assert [entry["fingerprint_sha256"] for entry in client.list_known_hosts()] == [fingerprint_of(host)]
    with Terminal("connect", target, *identity, "--url", server.url) as terminal:
        assert terminal.wait() == 0
        assert terminal.text == f"Connected to {target}\n"


@pytest.mark.parametrize("answer", ["no", "", "SHA256:0000000000000000000000000000000000000000000"])
def test_anything_else(
    server: ServerProcess,
    target: str,
    identity: tuple[str, str],
    client: RunicornRemoteClient,
    answer: str,
) -> None:
    with Terminal("--url", server.url, "connect", target, *identity) as terminal:
        terminal.expect(QUESTION)
        terminal.type(answer)
        if answer.startswith("SHA256"):
            terminal.expect("Please type")
            terminal.press("\x04")  # end of input
        terminal.expect("is not confirmed")
        assert terminal.wait() == 4
    assert client.list_known_hosts() == []
    assert client.list_sessions() == []


def test_the_fingerprint(
    server: ServerProcess, host: SshServer, target: str, client: RunicornRemoteClient
) -> None:
    with Terminal("--url", server.url, "hosts", "accept", target) as terminal:
        terminal.expect(QUESTION)
        terminal.type(fingerprint_of(host))
        terminal.expect("Trusted from now on")
        assert terminal.wait() == 0
    assert [entry["fingerprint_sha256"] for entry in client.list_known_hosts()] == [fingerprint_of(host)]


def test_ctrl_c_at_the_question(server: ServerProcess, target: str, client: RunicornRemoteClient) -> None:
    with Terminal("--url", server.url, "connect", target) as terminal:
        terminal.expect(QUESTION)
        terminal.press(CTRL_C)
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text
    assert client.list_known_hosts() == []


# --- a changed one


def test_a_changed_key_takes_its_fingerprint(
    server: ServerProcess,
    host: SshServer,
    target: str,
    identity: tuple[str, str],
    client: RunicornRemoteClient,
    tmp_path: Path,
) -> None:
    other = trust_another_key(server, host, tmp_path)
    for answer, status in (("yes", 4), (other, 4), (fingerprint_of(host), 0)):
        with Terminal("--url", server.url, "connect", target, *identity) as terminal:
            terminal.expect("WARNING: THE HOST'S IDENTIFICATION HAS CHANGED!")
            terminal.expect(f"trusted so far:  ED25519 {other}")
            terminal.expect(f"shown now:       ED25519 {fingerprint_of(host)}")
            terminal.expect("type its fingerprint")
            terminal.type(answer)
            assert terminal.wait() == status
    assert [entry["fingerprint_sha256"] for entry in client.list_known_hosts()] == [fingerprint_of(host)]


# --- secrets


@pytest.fixture
def password_target(server: ServerProcess, embedded_host: EmbeddedHost, client: RunicornRemoteClient) -> str:
    accept(client, embedded_host)
    return f"{embedded_host.username}@{embedded_host.host}:{embedded_host.port}"


def test_a_password_is_asked_for_and_never_shown(
    server: ServerProcess, embedded_host: EmbeddedHost, password_target: str
) -> None:
    with Terminal("--url", server.url, "connect", "--password", password_target) as terminal:
        terminal.expect("demo@127.0.0.1's password: ")
        until(lambda: not terminal.echoes(), 10, "the terminal stops to echo")
        terminal.type(embedded_host.password)
        terminal.expect(f"Connected to {password_target}")
        assert terminal.wait() == 0
        assert embedded_host.password not in terminal.raw
        assert terminal.echoes()


def test_a_login_that_fails_offers_the_password_once(
    server: ServerProcess, embedded_host: EmbeddedHost, password_target: str
) -> None:
    for password, status in ((embedded_host.password, 0), ("wrong", 5)):
        with Terminal("--url", server.url, "connect", password_target) as terminal:
            terminal.expect("There is nothing to log in to")
            terminal.expect("demo@127.0.0.1's password: ")
            until(lambda: not terminal.echoes(), 10, "the terminal stops to echo")
            terminal.type(password)
            assert terminal.wait() == status
            assert password not in terminal.raw
            assert terminal.text.count("password: ") == 1
            assert ("Authentication failed for" in terminal.text) is bool(status)


def test_a_passphrase_is_asked_for_until_it_is_right(
    server: ServerProcess, host: SshServer, trusted_target: str, tmp_path: Path
) -> None:
    key = encrypted_key(tmp_path / "encrypted key", "open sesame")
    with (host.directory / "authorized_keys").open("a") as authorized:
        authorized.write(key.with_name(key.name + ".pub").read_text())
    with Terminal("--url", server.url, "connect", trusted_target, "-i", str(key)) as terminal:
        for passphrase in ("wrong", "open sesame"):
            terminal.expect(f"Enter passphrase for key {key}: ")
            until(lambda: not terminal.echoes(), 10, "the terminal stops to echo")
            terminal.type(passphrase)
        terminal.expect(f"Connected to {trusted_target}")
        assert terminal.wait() == 0
        assert "open sesame" not in terminal.raw


def test_a_question_does_not_get_into_the_document(
    server: ServerProcess, embedded_host: EmbeddedHost, password_target: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Terminal("--url", server.url, "connect", password_target, "--json", stdout=out) as terminal:
        terminal.expect("password: ")
        until(lambda: not terminal.echoes(), 10, "the terminal stops to echo")
        terminal.type(embedded_host.password)
        assert terminal.wait() == 0
    assert json.loads(out.read_text())["connection_id"] == password_target


# --- viewers


@pytest.mark.viewer
def test_start_shows_the_phases_and_the_address(
    server: ServerProcess,
    target: str,
    identity: tuple[str, str],
    client: RunicornRemoteClient,
    tmp_path: Path,
) -> None:
    """The whole journey of a person: the real viewer, in a browser that writes down what it gets."""
    opened = tmp_path / "opened"
    environment = {
        "BROWSER": f"sh -c {shlex.quote(f'env >{opened}.env; echo $0 >{opened}')} %s",
        "RUNICORN_REMOTE_TOKEN": "the-token",
        "RUNICORN_REMOTE_URL": server.url,
    }
    arguments = ("start", target, "--root", "~/storage", "--env", ENVIRONMENT, "--open", *identity)
    with Terminal(*arguments, environment=environment) as terminal:
        terminal.expect(QUESTION)
        terminal.type("yes")
        for phase in PHASES:
            terminal.expect(f"✓ {phase}")
        terminal.expect("runicorn-remote stop ")
        terminal.expect("http://localhost:")
        assert terminal.wait() == 0
        url = terminal.text.split()[-1]
    (session,) = client.list_viewer_sessions()
    assert session["url"] == url
    assert requests.get(f"{url}/api/health", timeout=10).json()["status"] == "ok"
    assert opened.read_text().strip() == url
    assert "the-token" not in Path(f"{opened}.env").read_text()
    with Terminal("--url", server.url, "ls") as terminal:
        terminal.expect(session["sessionId"])
        assert terminal.wait() == 0
        assert "\x1b[32mrunning" in terminal.raw
    with Terminal("--url", server.url, "ls", environment={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
        assert "running" in terminal.text
        assert "\x1b[32m" not in terminal.raw
    with Terminal("--url", server.url, "stop", session["sessionId"][:6]) as terminal:
        terminal.expect(f"Stopped {session['sessionId']}")
        assert terminal.wait() == 0
    assert client.list_viewer_sessions() == []


def test_a_start_that_fails_says_where(
    server: ServerProcess, trusted_target: str, identity: tuple[str, str], client: RunicornRemoteClient
) -> None:
    arguments = ("--root", "~/storage", "--env", "raises", *identity)
    with Terminal("--url", server.url, "start", trusted_target, *arguments) as terminal:
        terminal.expect("✓ connecting")
        terminal.expect("✗ ")
        terminal.expect("the index is broken")
        assert terminal.wait() == 1
    assert client.list_viewer_sessions() == []


def test_ctrl_c_withdraws_a_start(
    server: ServerProcess, trusted_target: str, identity: tuple[str, str], client: RunicornRemoteClient
) -> None:
    arguments = ("--root", "~/storage", "--env", "sleeps", *identity)
    with Terminal("--url", server.url, "start", trusted_target, *arguments) as terminal:
        terminal.expect("waiting")
        terminal.press(CTRL_C)
        terminal.expect("Interrupted")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text
    assert client.list_viewer_sessions() == []


def test_watching(
    server: ServerProcess,
    host: SshServer,
    trusted_target: str,
    client: RunicornRemoteClient,
) -> None:
    with Terminal("--url", server.url, "ls", "--watch") as terminal:
        terminal.expect("No connections")
        client.connect(host.host, host.username, host.port, private_key_path=host.client_key)
        terminal.expect(trusted_target)
        terminal.press(CTRL_C)
        assert terminal.wait() == 0
        assert "Traceback" not in terminal.text


def test_watching_outlives_the_server(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Terminal("--url", server.url, "ls", "--watch") as terminal:
        terminal.expect("No viewers")
        server.stop()
        terminal.expect("The server does not answer")
        terminal.press(CTRL_C)
        assert terminal.wait() == 0
