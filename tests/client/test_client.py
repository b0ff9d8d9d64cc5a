"""The Python client against the real server, a real host and a real viewer."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

import runicorn_remote_client
from runicorn_remote.client import (
    AuthenticationFailed,
    BadRequest,
    ConnectionNotFound,
    EnvironmentNotFound,
    HostKey,
    HostKeyConfirmationRequired,
    HostUnreachable,
    LocalPortInUse,
    NotFound,
    PassphraseRequired,
    PassphraseWrong,
    RunicornRemoteClient,
    SessionNotFound,
    StartCancelled,
    ValidationFailed,
    ViewerEnded,
    ViewerStartFailed,
)
from tests.client.conftest import ENVIRONMENT, believe, encrypted_key, fingerprint
from tests.hosts.server import REPOSITORY, ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.waiting import until

Account = dict[str, Any]

# What scripts call; a signature may only grow keyword-only arguments with defaults.
SIGNATURES = {
    "connect": "host, username, port=22, password=None, private_key=None, private_key_path=None, "
    "passphrase=None, use_agent=True",
    "list_sessions": "",
    "disconnect": "*, host, port, username",
    "list_conda_envs": "*, connection_id",
    "start_viewer": "*, host, username, remote_root, port=22, password=None, private_key=None, "
    "private_key_path=None, passphrase=None, use_agent=True, local_port=None, remote_port=None, "
    "conda_env=None",
    "stop_viewer": "*, session_id",
    "get_viewer_session": "*, session_id",
    "close": "",
}


# --- the journey


def test_journey(
    client: RunicornRemoteClient, host: SshServer, credentials: Account, account: Account
) -> None:
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        client.connect(**credentials)
    (public_key,) = host.host_keys.values()
    assert caught.value.host_key == HostKey(
        host=host.host,
        port=host.port,
        key_type="ssh-ed25519",
        fingerprint_sha256=fingerprint(public_key),
        public_key=public_key,
        known_hosts_host=f"[{host.host}]:{host.port}",
        reason="unknown",
    )
    caught.value.accept()

    connected = client.connect(**credentials)
    connection_id = f"{host.username}@{host.host}:{host.port}"
    assert connected == {"ok": True, "connection_id": connection_id, "connected": True, **account}
    assert client.list_sessions() == [{"key": connection_id, "connected": True, **account}]

    started = client.start_viewer(**credentials, remote_root="~/storage", conda_env=ENVIRONMENT)
    session = started["session"]
    session_id = session["sessionId"]
    assert session["status"] == "running"
    assert session["remoteRoot"] == str(host.home / "storage")
    assert requests.get(session["url"] + "/api/health", timeout=10).json()["status"] == "ok"
    assert client.get_viewer_session(session_id=session_id)["sessionId"] == session_id
    assert [item["sessionId"] for item in client.list_viewer_sessions()] == [session_id]
    at_a_glance = client.status()
    assert (at_a_glance["connection_count"], at_a_glance["viewer_session_count"]) == (1, 1)

    assert client.stop_viewer(session_id=session_id)["ok"] is True
    with pytest.raises(NotFound):
        client.get_viewer_session(session_id=session_id)
    assert client.disconnect(**account)["ok"] is True
    assert client.disconnect(**account)["ok"] is False
    assert client.list_sessions() == []


def test_a_host_is_asked(trusting: RunicornRemoteClient, host: SshServer, credentials: Account) -> None:
    at = {"connection_id": trusting.connect(**credentials)["connection_id"]}
    environments = {item["name"]: item for item in trusting.list_conda_envs(**at)}
    assert environments["serves"]["path"] == str(host.home / ".virtualenvs/serves/bin/python")
    assert trusting.env_configs(**at)["serves"]["runicornVersion"] == "0.7.2"
    config = trusting.config(**at, conda_env="serves")
    assert config["runicornVersion"] == "0.7.2"
    assert config["homeDirectory"] == str(host.home)
    assert trusting.get_remote_config(**at)["condaEnv"] == "system"

    storage = host.home / "candidate"
    run = storage / "runs/run1"
    run.mkdir(parents=True)
    (run / "meta.json").write_text("{}")
    found = trusting.storage_candidates(**at, scan_root=str(storage), max_depth=1)
    assert found["max_depth"] == 1
    assert found["candidates"][0]["path"] == str(storage)
    listing = trusting.list_directory(**at, path=str(storage))
    assert listing["path"] == str(storage)
    assert [item["name"] for item in listing["items"]] == ["runs"]
    assert Path(trusting.list_directory(**at)["path"]).is_absolute()
    assert trusting.path_exists(**at, path=str(storage))["is_dir"] is True
    assert trusting.path_exists(**at, path="~/no such file")["exists"] is False

    resources = trusting.resources(**at, storage_root=str(storage))
    assert resources["connectionId"] == at["connection_id"]
    assert resources["disk"] is not None
    assert resources["disk"]["path"] == str(storage)

    with pytest.raises(NotFound):
        trusting.list_directory(**at, path="~/no such directory")
    with pytest.raises(EnvironmentNotFound):
        trusting.config(**at, conda_env="no such environment")
    with pytest.raises(ConnectionNotFound):
        trusting.list_conda_envs(connection_id="nobody@nowhere:22")
    with pytest.raises(BadRequest) as caught:
        trusting.list_conda_envs(connection_id="nowhere")
    assert caught.value.code == "INVALID_CONNECTION_ID"


def test_health_tells_the_version(client: RunicornRemoteClient) -> None:
    assert client.health()["server"]["name"] == "runicorn-remote"


# --- host keys


def test_a_callback_decides_on_an_unknown_key(
    server: ServerProcess, host: SshServer, credentials: Account, client: RunicornRemoteClient
) -> None:
    seen: list[HostKey] = []

    def decide(key: HostKey) -> bool:
        seen.append(key)
        return len(seen) > 1

    with RunicornRemoteClient(server.url, on_host_key=decide) as deciding:
        with pytest.raises(HostKeyConfirmationRequired):
            deciding.connect(**credentials)
        assert client.list_known_hosts() == []
        assert deciding.connect(**credentials)["connected"] is True
    assert [key.reason for key in seen] == ["unknown", "unknown"]
    assert client.list_known_hosts()[0]["fingerprint_sha256"] == seen[0].fingerprint_sha256


def test_a_callback_of_one_call_comes_before_that_of_the_client(
    server: ServerProcess, credentials: Account, client: RunicornRemoteClient
) -> None:
    with RunicornRemoteClient(server.url, on_host_key=lambda key: True) as trustful:
        with pytest.raises(HostKeyConfirmationRequired):
            trustful.connect(**credentials, on_host_key=lambda key: False)
        started = trustful.start_viewer(**credentials, remote_root="~/storage", conda_env="serves")
    assert started["ok"] is True


def test_a_changed_key_shows_both(
    server: ServerProcess,
    client: RunicornRemoteClient,
    host: SshServer,
    credentials: Account,
    tmp_path: Path,
) -> None:
    other = encrypted_key(tmp_path / "other", "").with_suffix(".pub").read_text().strip()
    believe(server, host, other)
    with pytest.raises(HostKeyConfirmationRequired) as caught:
        client.connect(**credentials)
    assert caught.value.host_key.changed
    assert caught.value.host_key.expected_fingerprint_sha256 == fingerprint(other)
    assert caught.value.host_key.fingerprint_sha256 in str(caught.value)
    caught.value.accept()
    assert client.connect(**credentials)["connected"] is True


def test_a_key_that_no_host_has_shown_is_refused(
    client: RunicornRemoteClient, host: SshServer, tmp_path: Path
) -> None:
    other = encrypted_key(tmp_path / "other", "").with_suffix(".pub").read_text().strip()
    with pytest.raises(BadRequest) as caught:
        client.accept_host_key(HostKey(host.host, host.port, "ssh-ed25519", fingerprint(other), other))
    assert caught.value.code == "HOST_KEY_NOT_SEEN"
    assert "Connect to the host first" in str(caught.value.hint)
    assert client.list_known_hosts() == []


def test_a_key_is_forgotten(trusting: RunicornRemoteClient, host: SshServer, credentials: Account) -> None:
    entry = {"host": host.host, "port": host.port, "key_type": "ssh-ed25519"}
    assert trusting.remove_known_host(**entry)["changed"] is True
    assert trusting.remove_known_host(**entry)["changed"] is False
    with pytest.raises(HostKeyConfirmationRequired):
        trusting.connect(**credentials)


# --- credentials


def test_a_key_is_given_as_text_or_as_a_path(
    trusting: RunicornRemoteClient, host: SshServer, account: Account
) -> None:
    assert trusting.connect(**account, private_key=host.client_key.read_text())["connected"] is True
    assert trusting.connect(**account, private_key_path=host.client_key)["connected"] is True


def test_arguments_may_be_positional(trusting: RunicornRemoteClient, host: SshServer) -> None:
    key = host.client_key.read_text()
    assert (
        trusting.connect(host.host, host.username, host.port, None, key, None, None, False)["connected"]
        is True
    )


def test_a_passphrase_is_asked_for(trusting: RunicornRemoteClient, account: Account, tmp_path: Path) -> None:
    key = encrypted_key(tmp_path / "key", "correct horse")
    with pytest.raises(PassphraseRequired):
        trusting.connect(**account, private_key_path=key)
    with pytest.raises(PassphraseWrong):
        trusting.connect(**account, private_key_path=key, passphrase="wrong horse")
    with pytest.raises(AuthenticationFailed):
        trusting.connect(**account, private_key_path=key, passphrase="correct horse")


def test_a_saved_server_supplies_what_is_missing(
    trusting: RunicornRemoteClient, host: SshServer, account: Account
) -> None:
    entry = {
        "kind": "server",
        "id": "srv_1",
        "name": "the host",
        "authMethod": "key",
        "createdAt": 1,
        **account,
        "private_key": host.client_key.read_text(),
    }
    assert trusting.save_connections([entry])["ok"] is True
    (saved,) = trusting.saved_connections()
    assert saved["hasSavedPrivateKey"] is True
    assert "private_key" not in saved
    # The port of this server is not 22, and not asked for.
    assert trusting.connect(None, None, saved_server_id="srv_1")["port"] == host.port
    with trusting.viewer(
        host=None, username=None, saved_server_id="srv_1", remote_root="~/storage", conda_env="serves"
    ) as session:
        assert session["sshPort"] == host.port
    with pytest.raises(BadRequest) as caught:
        trusting.connect("elsewhere", None, saved_server_id="srv_1")
    assert caught.value.code == "SAVED_SERVER_MISMATCH"


# --- errors, as the server really answers


def test_errors_are_what_scripts_catch(
    trusting: RunicornRemoteClient, account: Account, tmp_path: Path
) -> None:
    stranger = encrypted_key(tmp_path / "stranger", "")
    with pytest.raises(requests.HTTPError) as caught:
        trusting.connect(**account, private_key_path=stranger)
    error = caught.value
    assert isinstance(error, AuthenticationFailed)
    assert error.response.status_code == error.status_code == 500
    assert error.response.json()["detail"] == error.detail == str(error)
    assert error.detail.startswith("Connection failed: ")
    assert error.code == "AUTH_FAILED"


def test_a_host_that_is_not_there(client: RunicornRemoteClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(HostUnreachable) as caught:
        client.connect("127.0.0.1", "me", port=port)
    assert (caught.value.status_code, caught.value.code) == (503, "CONNECTION_REFUSED")
    assert caught.value.hint == "Is sshd running on that port?"


def test_all_faults_of_a_request(client: RunicornRemoteClient) -> None:
    with pytest.raises(ValidationFailed) as caught:
        client.connect(None, None, port=0)
    assert {fault["loc"][-1] for fault in caught.value.errors} == {"host", "port", "username"}
    assert "port: A port is a number from 1 to 65535." in str(caught.value)


def test_a_server_that_is_not_there_is_the_error_of_requests() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with RunicornRemoteClient(url) as client, pytest.raises(requests.ConnectionError):
        client.list_sessions()


def test_no_secret_in_an_error(trusting: RunicornRemoteClient, account: Account) -> None:
    password = "hunter2-and-more"
    with pytest.raises(AuthenticationFailed) as caught:
        trusting.connect(**account, password=password)
    assert password not in str(caught.value) + repr(caught.value)


# --- viewers


def test_a_start_that_fails_says_why(trusting: RunicornRemoteClient, credentials: Account) -> None:
    start = {**credentials, "remote_root": "~/storage"}
    with pytest.raises(ViewerStartFailed) as caught:
        trusting.start_viewer(**start, conda_env="raises")
    assert caught.value.code == "VIEWER_EXITED"
    assert "the index is broken" in str(caught.value)
    with pytest.raises(EnvironmentNotFound):
        trusting.start_viewer(**start, conda_env="no such environment")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(LocalPortInUse):
        trusting.start_viewer(**start, conda_env="serves", local_port=taken.getsockname()[1])


def test_a_held_connection_serves_a_start_without_credentials(
    trusting: RunicornRemoteClient, credentials: Account, account: Account
) -> None:
    trusting.connect(**credentials)
    assert trusting.start_viewer(**account, remote_root="~/storage", conda_env="serves")["ok"] is True


def test_a_viewer_for_a_block(trusting: RunicornRemoteClient, credentials: Account) -> None:
    start = {**credentials, "remote_root": "~/storage", "conda_env": "serves"}
    with trusting.viewer(**start) as session:
        assert requests.get(session["url"], timeout=10).ok
    assert trusting.list_viewer_sessions() == []
    with pytest.raises(ZeroDivisionError), trusting.viewer(**start):
        raise ZeroDivisionError
    assert trusting.list_viewer_sessions() == []
    with trusting.viewer(**start) as session:
        trusting.stop_viewer(session_id=session["sessionId"])
    with pytest.raises(ViewerStartFailed), trusting.viewer(**{**start, "conda_env": "raises"}):
        pytest.fail("the block ran")


def test_a_stop_that_fails_does_not_hide_what_the_block_raised(
    trusting: RunicornRemoteClient, credentials: Account, caplog: pytest.LogCaptureFixture
) -> None:
    start = {**credentials, "remote_root": "~/storage", "conda_env": "serves"}
    real = trusting.base_url
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"

    def leave() -> None:
        with trusting.viewer(**start):
            trusting.base_url = nowhere
            raise ZeroDivisionError

    with caplog.at_level(logging.WARNING), pytest.raises(ZeroDivisionError):
        leave()
    assert "could not be stopped" in caplog.text
    trusting.base_url = real
    with pytest.raises(requests.ConnectionError), trusting.viewer(**start):
        trusting.base_url = nowhere


def test_a_start_that_takes_too_long_is_withdrawn(
    trusting: RunicornRemoteClient, server: ServerProcess, host: SshServer, credentials: Account
) -> None:
    # A neighbour's start on the same account, which has to live.
    trusting.start_viewer(**credentials, remote_root="~/storage", conda_env="serves")
    with RunicornRemoteClient(server.url, timeout=(5, 1.5)) as hasty:
        start = {**credentials, "remote_root": "~/storage", "conda_env": "sleeps"}
        with pytest.raises(requests.ReadTimeout), hasty.viewer(**start):
            pytest.fail("the block ran")
    until(lambda: len(trusting.list_viewer_sessions()) == 1, 20, "the start is withdrawn")
    assert trusting.list_viewer_sessions()[0]["condaEnv"] == "serves"


def test_ctrl_c_during_a_start_withdraws_it(trusting: RunicornRemoteClient, credentials: Account) -> None:
    start = {**credentials, "remote_root": "~/storage", "conda_env": "sleeps"}
    script = f"""
from runicorn_remote_client import RunicornRemoteClient
with RunicornRemoteClient({trusting.base_url!r}) as client, client.viewer(**{start!r}):
    raise AssertionError("the block ran")
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stderr=subprocess.PIPE) as process:
        try:
            until(trusting.list_viewer_sessions, 30, "the start is listed")
            process.send_signal(signal.SIGINT)
            assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert trusting.list_viewer_sessions() == []


def test_waiting_for_a_status(trusting: RunicornRemoteClient, credentials: Account) -> None:
    with trusting.viewer(**credentials, remote_root="~/storage", conda_env="serves") as session:
        session_id = session["sessionId"]
        assert trusting.wait_until(session_id)["status"] == "running"
        assert trusting.wait_until(session_id, {"running", "degraded"})["sessionId"] == session_id
        with pytest.raises(TimeoutError, match="still running after"):
            trusting.wait_until(session_id, "error", timeout=0.2, poll_interval=0.05)
        pid = session["remotePid"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ViewerEnded) as caught:
            trusting.wait_until(session_id, "stopping", timeout=30)
        assert caught.value.session is not None
        assert caught.value.session["status"] == "error"
        assert trusting.wait_until(session_id, "error")["isActive"] is False
    with pytest.raises(SessionNotFound):
        trusting.wait_until(session_id)


def test_one_thread_starts_another_stops(trusting: RunicornRemoteClient, credentials: Account) -> None:
    start = {**credentials, "remote_root": "~/storage", "conda_env": "sleeps"}
    with ThreadPoolExecutor(1) as executor:
        starting = executor.submit(trusting.start_viewer, **start)
        until(trusting.list_viewer_sessions, 30, "the start is listed")
        (session,) = trusting.list_viewer_sessions()
        assert session["status"] == "connecting"
        with pytest.raises(TimeoutError):
            trusting.wait_until(session["sessionId"], timeout=0.2)
        trusting.stop_viewer(session_id=session["sessionId"])
        with pytest.raises(StartCancelled):
            starting.result(60)


def test_closing_ends_a_wait(
    trusting: RunicornRemoteClient, credentials: Account, server: ServerProcess
) -> None:
    waiting = RunicornRemoteClient(server.url)
    with trusting.viewer(**credentials, remote_root="~/storage", conda_env="serves") as session:
        closing = threading.Timer(0.2, waiting.close)
        closing.start()
        with pytest.raises(RuntimeError, match="closed"):
            waiting.wait_until(session["sessionId"], "error", timeout=60, poll_interval=60)
        closing.join(10)


# --- the package


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_fixed(name: str) -> None:
    ours = list(inspect.signature(getattr(RunicornRemoteClient, name)).parameters.values())[1:]
    fixed = list(inspect.signature(eval(f"lambda {SIGNATURES[name]}: 0")).parameters.values())
    more = [parameter for parameter in ours if parameter.name not in {item.name for item in fixed}]
    kept = [parameter.replace(annotation=parameter.empty) for parameter in ours if parameter not in more]
    assert kept == fixed
    assert all(item.kind is item.KEYWORD_ONLY and item.default is not item.empty for item in more)


def test_the_constructor_is_fixed() -> None:
    parameters = inspect.signature(RunicornRemoteClient).parameters
    assert list(parameters)[:3] == ["base_url", "token", "timeout"]
    assert parameters["base_url"].default == "http://127.0.0.1:23300"
    assert parameters["token"].default is None


def test_the_name_scripts_import() -> None:
    assert runicorn_remote_client.RunicornRemoteClient is RunicornRemoteClient
    assert set(runicorn_remote_client.__all__) >= {"RunicornRemoteClient", "HostKeyConfirmationRequired"}
    for name in runicorn_remote_client.__all__:
        assert hasattr(runicorn_remote_client, name)


def test_nothing_but_requests_is_needed() -> None:
    script = """
import sys
SERVER = (
    "flask flask_smorest fabric paramiko invoke marshmallow webargs werkzeug waitress cryptography filelock "
    "click rich typing_extensions asyncssh runicorn"
)
for name in SERVER.split():
    sys.modules[name] = None  # importing it raises ImportError
import runicorn_remote_client
import runicorn_remote.client
ours = {name for name in sys.modules if name.partition(".")[0] == "runicorn_remote"}
print(sorted(ours - {"runicorn_remote", "runicorn_remote._version"}))
"""
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert all(name.startswith("runicorn_remote.client") for name in eval(answer.stdout))


def test_proxies_of_the_environment_do_not_get_in_the_way(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with RunicornRemoteClient(server.url + "/") as client:
        assert client.health()["status"] == "ok"
