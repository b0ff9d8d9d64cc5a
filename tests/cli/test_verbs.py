"""The client verbs in scripts: exit statuses, documents, plain text. Nobody is at the keyboard."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

from runicorn_remote.client import RunicornRemoteClient
from runicorn_remote.demo.ssh_host import EmbeddedHost
from tests.cli.conftest import ENVIRONMENT, Result, Run
from tests.client.conftest import believe, encrypted_key, fingerprint
from tests.hosts.server import REPOSITORY, ServerProcess, clean_environment
from tests.hosts.sshd import SshServer

Identity = tuple[str, str]


@pytest.fixture
def started(run: Run, trusted_target: str, identity: Identity) -> dict[str, Any]:
    """A viewer's session."""
    result = run("start", trusted_target, *identity, "--root", "~/storage", "--env", "serves", "--json")
    assert result.status == 0, result
    session: dict[str, Any] = result.document["session"]
    return session


def says_no(result: Result, status: int, code: str) -> dict[str, Any]:
    """The error of a run with `--json`."""
    error: dict[str, Any] = result.document
    assert set(error) == {"detail", "code", "hint", "status"}
    assert (result.status, error["code"]) == (status, code)
    return error


# --- each verb's document


def test_connect_and_disconnect(run: Run, host: SshServer, trusted_target: str, identity: Identity) -> None:
    connected = run("connect", trusted_target, *identity, "--json")
    assert connected.status == 0
    assert connected.document == {
        "ok": True,
        "connection_id": trusted_target,
        "host": host.host,
        "port": host.port,
        "username": host.username,
        "connected": True,
    }
    assert [item["key"] for item in run("ls", "--json").document["connections"]] == [trusted_target]
    assert run("disconnect", "--json").document["ok"] is True
    assert run("ls", "--json").document["connection_count"] == 0
    says_no(run("disconnect", "--json"), 6, "CONNECTION_NOT_FOUND")
    says_no(run("disconnect", trusted_target, "--json"), 6, "CONNECTION_NOT_FOUND")


def test_environments(run: Run, trusted_target: str, identity: Identity) -> None:
    assert run("connect", trusted_target, *identity).status == 0
    (environment,) = [item for item in run("envs", "--json").document["envs"] if item["name"] == "serves"]
    assert environment["runicornVersion"] == "0.7.2"
    header, *rows = run("envs", trusted_target).out.splitlines()
    assert header.split() == ["NAME", "TYPE", "PYTHON", "RUNICORN", "INTERPRETER"]
    assert any(row.split()[0] == "serves" and " 0.7.2 " in row for row in rows)
    assert sum(row.startswith("*") for row in rows) == 1


def test_logs(run: Run, host: SshServer, started: dict[str, Any]) -> None:
    (file,) = (host.home / ".local").rglob(f"{started['sessionId']}/viewer.log")
    file.write_text("one\ntwo\nthree\n")
    # The viewer goes on: what it logs meanwhile comes behind.
    assert run("logs", started["sessionId"][:6]).out.startswith("one\ntwo\nthree\n")
    assert len(run("logs", started["sessionId"][:6], "--tail", "2").out.splitlines()) == 2
    document = run("logs", started["sessionId"], "--json").document
    assert (document["lines"][:3], document["live"]) == (["one", "two", "three"], True)
    says_no(run("logs", "nope", "--json"), 6, "SESSION_NOT_FOUND")
    assert run("logs", started["sessionId"], "--tail", "0").status == 2


def test_browsing(run: Run, host: SshServer, trusted_target: str, identity: Identity) -> None:
    hostile = host.home / "browsed/\x1b]0;owned\x07[red]\nsecond"
    hostile.parent.mkdir()
    hostile.write_bytes(b"x" * 2048)
    assert run("connect", trusted_target, *identity).status == 0
    answer = run("browse", trusted_target, str(hostile.parent), "--json").document
    assert [item["name"] for item in answer["items"]] == [hostile.name]
    shown = run("browse", trusted_target, str(hostile.parent))
    header, row = shown.out.splitlines()
    assert header.split() == ["MODIFIED", "SIZE", "NAME"]
    assert row.endswith(r"  2.0K  \x1b]0;owned\x07[red]\nsecond")
    assert "browsed/" in run("browse", trusted_target, str(host.home)).out
    assert run("browse", trusted_target).status == 0
    says_no(run("browse", trusted_target, "/none", "--json"), 6, "PATH_NOT_FOUND")
    says_no(run("browse", trusted_target, "/etc/passwd", "--json"), 1, "NOT_A_DIRECTORY")


def test_starting_and_stopping(run: Run, started: dict[str, Any]) -> None:
    assert requests.get(started["url"], timeout=10).ok
    listed = run("ls").out
    assert started["sessionId"] in listed
    assert started["url"] in listed
    assert "\x1b" not in listed
    says_no(run("stop", "none", "--json"), 6, "SESSION_NOT_FOUND")
    says_no(run("stop", "--json"), 2, "USAGE")
    says_no(run("stop", started["sessionId"], "--all", "--json"), 2, "USAGE")
    stopped = run("stop", started["sessionId"][:8], "--json")
    assert stopped.document == {"ok": True, "stopped": [started["sessionId"]]}
    assert run("ls", "--json").document["viewer_sessions"] == []


def test_installing(run: Run, trusted_target: str, identity: Identity) -> None:
    assert run("connect", trusted_target, *identity).status == 0
    # It is there already, so nothing is fetched.
    there = ("--env", ENVIRONMENT, "--version", metadata.version("runicorn"))
    done = run("install", trusted_target, *there)
    assert (done.status, done.out) == (0, ENVIRONMENT + "\n"), done
    assert "Requirement already satisfied" in done.err
    document = run("install", *there, "--json").document
    assert (document["state"], document["result"]["source"]) == ("done", "index")
    refused = run("install", trusted_target, "--env", "nope", "--json")
    assert (refused.status, refused.document["code"]) == (6, "ENVIRONMENT_NOT_FOUND")
    says_no(run("install", trusted_target, "--version", ">1", "--json"), 1, "INVALID_VALUE")
    says_no(run("install", "me@nowhere", "--json"), 6, "CONNECTION_NOT_FOUND")


def test_how_busy_the_hosts_are(
    run: Run, host: SshServer, trusted_target: str, identity: Identity, embedded_host: EmbeddedHost
) -> None:
    """Of two, one of which has stopped to answer."""
    other = f"{embedded_host.username}@{embedded_host.host}:{embedded_host.port}"
    assert run("connect", trusted_target, *identity).status == 0
    accepted = run("hosts", "accept", other, "--fingerprint", embedded_host.fingerprint)
    assert accepted.status == 0, accepted
    assert run("connect", other, "--password-stdin", stdin=embedded_host.password).status == 0
    document = run("ls", "--json").document
    assert set(document["resources"]) == {trusted_target, other}
    assert document["resources"][trusted_target]["memory"]["totalBytes"] > 0
    host.freeze_connections()
    try:
        shown = run("ls")
        found = run("ls", "--json").document["resources"]
    finally:
        host.thaw_connections()
    header, *rows, _, _ = shown.out.splitlines()
    assert re.split("  +", header) == ["CONNECTION", "STATE", "LOAD", "MEMORY FREE", "GPU", "DISK FREE"]
    cells = {row[0]: row[2:] for row in map(re.compile("  +").split, rows)}
    assert cells[trusted_target] == ["no answer", "-", "-", "-"]
    assert " of " in cells[other][1]
    assert found[trusted_target]["code"] == "NO_ANSWER"
    assert found[other]["ok"] is True
    without = run("ls", "--no-resources", "--json").document
    assert "resources" not in without
    assert "LOAD" not in run("ls", "--no-resources").out


def test_stopping_all(run: Run, started: dict[str, Any], trusted_target: str, identity: Identity) -> None:
    again = run("start", trusted_target, *identity, "--root", "~/storage", "--env", "serves")
    assert again.status == 0
    assert again.out.startswith("http://localhost:")
    assert again.out.count("\n") == 1
    for phase in ("connecting", "preparing", "launching", "waiting", "ready"):
        assert again.err.count(f"{phase}: ") == 1
    stopped = run("stop", "--all", "--json")
    assert stopped.status == 0
    assert len(stopped.document["stopped"]) == 2
    assert started["sessionId"] in stopped.document["stopped"]
    assert run("stop", "--all", "--json").document == {"ok": True, "stopped": []}


def test_disconnecting_with_viewers(
    run: Run, started: dict[str, Any], trusted_target: str, identity: Identity
) -> None:
    assert run("connect", trusted_target, *identity).status == 0
    assert run("disconnect", trusted_target).status == 0
    (left,) = run("ls", "--json").document["viewer_sessions"]
    assert left["sessionId"] == started["sessionId"]
    assert run("disconnect", trusted_target, "--stop-viewers").status == 0
    assert run("ls", "--json").document["viewer_sessions"] == []


def test_failures_of_a_start(run: Run, trusted_target: str, identity: Identity) -> None:
    start = ("start", trusted_target, *identity, "--json")
    says_no(run(*start), 2, "USAGE")
    says_no(run(*start, "--root", "~/storage", "--env", "none"), 6, "ENVIRONMENT_NOT_FOUND")
    error = says_no(run(*start, "--root", "~/storage", "--env", "raises"), 1, "VIEWER_EXITED")
    assert "the index is broken" in error["detail"]
    assert error["status"] == 500
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        more = ("--root", "~/storage", "--env", "serves", "--local-port", port)
        says_no(run(*start, *more), 1, "LOCAL_PORT_IN_USE")


# --- host keys


def test_an_unknown_key_is_refused_and_the_way_is_shown(
    run: Run, host: SshServer, target: str, identity: Identity
) -> None:
    seen = fingerprint(host.host_keys["ssh-ed25519"])
    place = f"{host.host}:{host.port}"
    error = says_no(run("connect", target, *identity, "--json"), 4, "HOST_KEY_CONFIRMATION_REQUIRED")
    assert error["detail"]["host_key"]["fingerprint_sha256"] == seen
    assert error["status"] == 409
    refused = run("connect", target, *identity, stdin="yes\n")
    assert (refused.status, refused.out) == (4, "")
    command = f"hosts accept {place} --fingerprint {seen}"
    assert command in refused.err
    assert run("hosts", "accept", place).status == 4
    wrong = "SHA256:" + "0" * 43
    says_no(run("hosts", "accept", place, "--fingerprint", wrong, "--json"), 4, error["code"])
    assert run("hosts", "--json").document == {"entries": []}

    accepted = run(*command.split(), "--json")
    assert accepted.document["host_key"] == error["detail"]["host_key"]
    assert run(*command.split(), "--json").document["changed"] is False
    says_no(run("hosts", "accept", place, "--fingerprint", wrong, "--json"), 4, "HOST_KEY_MISMATCH")
    assert run("connect", target, *identity).status == 0

    header, row = run("hosts", "list").out.splitlines()
    assert header.split() == ["HOST", "TYPE", "FINGERPRINT"]
    assert row.split() == [place, "ssh-ed25519", seen]
    says_no(run("hosts", "remove", place, "--type", "ssh-rsa", "--json"), 6, "HOST_KEY_NOT_FOUND")
    removed = run("hosts", "remove", place, "--json").document
    assert removed == {"ok": True, "changed": True, "removed": ["ssh-ed25519"]}
    says_no(run("hosts", "remove", place, "--json"), 6, "HOST_KEY_NOT_FOUND")


def test_a_changed_key_is_a_loud_refusal(
    run: Run, server: ServerProcess, host: SshServer, target: str, tmp_path: Path
) -> None:
    line = encrypted_key(tmp_path / "other", "").with_name("other.pub").read_text().strip()
    other = fingerprint(line)
    believe(server, host, line)
    refused = run("connect", target)
    assert refused.status == 4
    assert "IDENTIFICATION HAS CHANGED" in refused.err
    assert other in refused.err
    assert fingerprint(host.host_keys["ssh-ed25519"]) in refused.err


# --- credentials


def test_a_password_from_stdin(run: Run, client: RunicornRemoteClient, embedded_host: EmbeddedHost) -> None:
    target = f"{embedded_host.username}@{embedded_host.host}:{embedded_host.port}"
    assert run("hosts", "accept", target, "--fingerprint", embedded_host.fingerprint).status == 0
    says_no(run("connect", target, "--json"), 5, "AUTH_FAILED")
    connect = ("connect", target, "--password-stdin", "--json")
    says_no(run(*connect, stdin="wrong\n"), 5, "AUTH_FAILED")
    says_no(run(*connect, stdin="\n"), 2, "USAGE")
    connected = run(*connect, stdin=f"{embedded_host.password}\n")
    assert connected.status == 0
    assert embedded_host.password not in connected.out + connected.err
    says_no(run("connect", target, "--password", "--json"), 2, "USAGE")
    says_no(run("connect", target, "--password", "--password-stdin", "--json"), 2, "USAGE")


def test_keys_that_cannot_be_used(run: Run, trusted_target: str, tmp_path: Path) -> None:
    key = str(encrypted_key(tmp_path / "key", "open sesame"))
    says_no(run("connect", trusted_target, "-i", key, "--json"), 5, "PASSPHRASE_REQUIRED")
    says_no(run("connect", trusted_target, "-i", str(tmp_path / "none"), "--json"), 5, "KEY_UNUSABLE")


def test_a_key_file_is_found_from_here(
    run: Run, host: SshServer, trusted_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(host.directory)
    assert run("connect", trusted_target, "-i", host.client_key.name).status == 0


# --- what is saved


def test_saved_servers(
    run: Run, host: SshServer, trusted_target: str, identity: Identity, client: RunicornRemoteClient
) -> None:
    says_no(run("connect", "--saved", "gpu", "--json"), 6, "SAVED_SERVER_NOT_FOUND")
    added = run("saved", "add", "gpu", trusted_target, *identity, "--json").document
    assert run("saved", "add", "other", "you@elsewhere", "--password-stdin", stdin="secret\n").status == 0
    profile = {
        "kind": "connection",
        "id": "conn_1",
        "serverId": added["id"],
        "name": "night run",
        "condaEnv": "serves",
        "remoteRoot": "~/storage",
        "createdAt": 1,
    }
    client.save_connections([*client.saved_connections(), profile])

    listed = run("saved")
    assert [line.split()[0] for line in listed.out.splitlines()] == [
        "ID",
        added["id"],
        "srv_you_elsewhere_22",
        "conn_1",
    ]
    assert "secret" not in listed.out + run("saved", "list", "--json").out
    assert run("connect", "--saved", "gpu", "--json").document["connection_id"] == trusted_target
    mismatch = run("connect", "me@elsewhere", "--saved", added["id"], "--json")
    says_no(mismatch, 1, "SAVED_SERVER_MISMATCH")
    says_no(run("start", "--saved", "gpu", "--json"), 2, "USAGE")
    session = run("start", "--saved", "night run", "--json").document["session"]
    assert session["remoteRoot"] == str(host.home / "storage")
    assert session["condaEnv"] == "serves"

    removed = run("saved", "remove", "gpu", "--json").document["removed"]
    assert removed == [added["id"], "conn_1"]
    (left,) = run("saved", "--json").document["connections"]
    assert left["hasSavedPassword"] is True
    says_no(run("saved", "remove", "gpu", "--json"), 6, "SAVED_SERVER_NOT_FOUND")


# --- the server


def test_no_server(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    error = says_no(run("ls", "--url", nowhere, "--json"), 3, "SERVER_NOT_REACHABLE")
    assert error["hint"] == "Start it: runicorn-remote serve"
    for verb in (["connect", "me@gpu1"], ["start", "me@gpu1", "--root", "x"], ["stop", "--all"], ["saved"]):
        refused = run("--url", nowhere, *verb)
        assert refused.status == 3
        assert "runicorn-remote serve" in refused.err
    says_no(run("--url", "gpu1:23300", "ls", "--json"), 2, "USAGE")


def test_something_else_answers(run: Run, tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        serving = threading.Thread(target=other.serve_forever, name="other-server")
        serving.start()
        try:
            page = tmp_path / "api/remote/status"
            page.parent.mkdir(parents=True)
            page.write_text("<h1>Welcome</h1>")
            url = f"http://127.0.0.1:{other.server_address[1]}"
            says_no(run("ls", "--url", url, "--json"), 3, "UNEXPECTED_ANSWER")
        finally:
            other.shutdown()
            serving.join(10)


def test_hosts_without_a_service(run: Run, client: RunicornRemoteClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = says_no(run("connect", f"me@127.0.0.1:{port}", "--json"), 1, "CONNECTION_REFUSED")
    assert error["status"] == 503


def test_a_server_that_wants_a_token(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, file = "0123456789abcdef" * 3, tmp_path / "token"
    file.write_text(token + "\n")
    monkeypatch.delenv("RUNICORN_REMOTE_TOKEN", raising=False)
    with ServerProcess(tmp_path, environment={"RUNICORN_REMOTE_TOKEN": token}) as guarded:
        ls = ("ls", "--url", guarded.url, "--json")
        error = run(*ls).document
        assert (run(*ls).status, error["status"]) == (5, 401)
        assert "--token-file" in error["hint"]
        assert run(*ls, "--token-file", str(file)).status == 0
        monkeypatch.setenv("RUNICORN_REMOTE_TOKEN", token)
        assert run(*ls).status == 0
        file.write_text("f" * 48)
        refused = run("--token-file", str(file), *ls)
        assert refused.status == 5
        assert "f" * 48 not in refused.out + refused.err
    says_no(run(*ls, "--token-file", str(tmp_path / "none")), 2, "USAGE")


def test_a_reader_that_goes_away(server: ServerProcess) -> None:
    """`runicorn-remote ls | head -0`"""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.run(
            [sys.executable, "-m", "runicorn_remote", "--url", server.url, "ls"],
            stdout=writing,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            env=clean_environment(),
            timeout=30,
        )
    finally:
        os.close(writing)
    assert process.returncode == 1
    assert process.stderr == b""


def test_a_locale_without_the_characters(server: ServerProcess, client: RunicornRemoteClient) -> None:
    entry = {"kind": "server", "id": "s", "name": "Rechenknecht für Übungen ✓", "host": "h", "port": 22}
    client.save_connections([{**entry, "username": "u", "authMethod": "key", "createdAt": 1}])
    process = subprocess.run(
        [sys.executable, "-m", "runicorn_remote", "--url", server.url, "saved"],
        capture_output=True,
        cwd=REPOSITORY,
        env={**clean_environment(), "PYTHONIOENCODING": "latin-1", "FORCE_COLOR": "1"},
        timeout=30,
    )
    assert process.returncode == 0, process.stderr
    assert "Rechenknecht für Übungen \\u2713".encode("latin-1") in process.stdout
    assert b"\x1b" not in process.stdout


def test_usage_errors_are_documents_too(run: Run) -> None:
    says_no(run("ls", "--watch", "--json"), 2, "USAGE")
    says_no(run("ls", "--what", "--json"), 2, "USAGE")
    says_no(run("--json", "connect", "me@host:0"), 2, "USAGE")
    assert run("ls", "--watch").status == 2
    assert json.loads(run("--json", "ls").out)["connections"] == []
