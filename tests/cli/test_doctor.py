"""`doctor`, against this machine and against hosts that fail at each step; it never changes anything."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.cli import main
from runicorn_remote.services.host_checks import STEPS
from tests.cli.conftest import Result
from tests.cli.terminal import Terminal
from tests.client.conftest import encrypted_key
from tests.hosts.server import ServerProcess
from tests.hosts.silent import SilentHost
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import SERVES, make_stand_in

Doctor = Callable[..., Result]
as_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may chown")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def doctor(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Doctor:
    """`doctor("me@host", …)` with short time-outs, a free port and the state directory `state`."""
    config = tmp_path / "settings.toml"

    def doctor(*arguments: str, settings: str = "", port: int = 0) -> Result:
        common = f'port = {port}\nbanner_timeout = 0.5\nconnect_timeout = 5\nkey_roots = ["/"]\n'
        config.write_text(common + settings)
        monkeypatch.setattr(sys, "stdin", None)
        capsys.readouterr()
        status = main(["doctor", *arguments, "--config", str(config), "--state-dir", str(state)])
        return Result(status, *capsys.readouterr())

    return doctor


def trust(state: Path, server: SshServer) -> None:
    path = state / "known_hosts"
    path.write_text("\n".join(server.known_hosts_lines()) + "\n")
    path.chmod(0o600)


def address(server: Any, username: str = "me") -> str:
    return f"{getattr(server, 'username', username)}@{server.host}:{server.port}"


def steps(result: Result) -> dict[str, dict[str, Any]]:
    found = {check["step"]: check for check in result.document["host"]}
    assert tuple(found) == STEPS
    return found


def assert_fails_at(result: Result, step: str, code: str | None) -> dict[str, Any]:
    """There, with this code and advice; what came before was well, what comes after was not tried."""
    assert result.status == 1
    assert result.document["ok"] is False
    found = steps(result)
    statuses = [found[name]["status"] for name in STEPS]
    at = STEPS.index(step)
    assert statuses[: at + 1] == ["ok"] * at + ["failed"], found
    assert found[step]["code"] == code, found[step]
    assert found[step]["hint"]
    assert all(found[name]["duration_ms"] is not None for name in STEPS[: at + 1])
    return found


# --- the machine


def machine(result: Result) -> dict[str, dict[str, Any]]:
    return {check["step"]: check for check in result.document["machine"]}


def test_a_machine_that_is_well(doctor: Doctor, state: Path) -> None:
    result = doctor("--json")
    assert (result.status, result.document["ok"]) == (0, True)
    found = machine(result)
    assert {name for name, check in found.items() if check["status"] == "failed"} == set()
    assert found["agent"]["status"] == "warning"
    assert "host" not in result.document
    assert list(state.iterdir()) == []


def test_it_is_told_in_lines_for_people(doctor: Doctor, state: Path) -> None:
    state.chmod(0o750)
    result = doctor()
    assert result.status == 0
    assert re.search(rf"^! state +\d+ ms  {state} has mode 750", result.out, re.M)
    assert re.search(r"^✓ python ", result.out, re.M)
    assert state.stat().st_mode & 0o777 == 0o750


def test_a_state_directory_that_is_not_there_is_not_made(doctor: Doctor, state: Path) -> None:
    state.rmdir()
    assert machine(doctor("--json"))["state"]["status"] == "ok"
    assert not state.exists()


@as_root
def test_a_file_of_another_user(doctor: Doctor, state: Path) -> None:
    (state / "known_hosts").touch()
    os.chown(state / "known_hosts", 65534, 65534)
    result = doctor("--json")
    assert result.status == 1
    found = machine(result)
    assert "chown" in found["state"]["detail"]
    assert (found["known_hosts"]["status"], found["known_hosts"]["code"]) == (
        "failed",
        "KNOWN_HOSTS_UNREADABLE",
    )


def test_a_port_where_our_server_listens_already(doctor: Doctor, server: ServerProcess) -> None:
    found = machine(doctor("--json", port=server.port))["address"]
    assert (found["status"], "runicorn-remote" in found["detail"]) == ("ok", True)


def test_a_port_that_something_else_has(doctor: Doctor) -> None:
    with one_answer(b"HTTP/1.0 200 OK\r\n\r\n[]") as port:
        result = doctor("--json", port=port)
    assert result.status == 1
    found = machine(result)["address"]
    assert (found["status"], "--port" in found["hint"]) == ("failed", True)


@pytest.mark.parametrize(
    ("settings", "step", "said"),
    [
        ('token_file = "/nowhere/token"', "token", "does not exist"),
        ('secret_key = "credential"', "saved secrets", "runicorn-remote-key"),
        ('host = "192.0.2.1"', "address", "192.0.2.1"),
    ],
)
def test_what_a_server_would_not_start_with(doctor: Doctor, settings: str, step: str, said: str) -> None:
    result = doctor("--json", settings=settings)
    assert result.status == 1
    found = machine(result)[step]
    assert (found["status"], bool(found["hint"])) == ("failed", True)
    assert said in found["detail"]


def test_an_agent_that_is_gone(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "none"))
    found = machine(doctor("--json"))["agent"]
    assert found["status"] in ("failed", "warning")
    assert found["hint"]


# --- the way to a host


def test_a_host_that_is_well(doctor: Doctor, host: SshServer, state: Path) -> None:
    trust(state, host)
    before = (state / "known_hosts").read_bytes()
    result = doctor(address(host), "-i", str(host.client_key), "--json")
    found = steps(result)
    assert (result.status, {check["status"] for check in found.values()}) == (0, {"ok"}), found
    assert found["banner"]["detail"].startswith("SSH-2.0-OpenSSH")
    assert host.username in found["login"]["detail"]
    assert "0.7.2 in serves" in found["runicorn"]["detail"]
    assert all(isinstance(check["duration_ms"], int) for check in found.values())
    assert (state / "known_hosts").read_bytes() == before
    assert os.listdir(state) == ["known_hosts"]


def test_a_name_that_nobody_knows(doctor: Doctor) -> None:
    assert_fails_at(doctor("me@nowhere.invalid", "--json"), "name", "HOST_NOT_FOUND")


def test_a_port_where_nobody_listens(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert_fails_at(doctor(f"me@127.0.0.1:{port}", "--json"), "TCP", "CONNECTION_REFUSED")


def test_a_host_that_it_is_set_not_to_connect_to(doctor: Doctor) -> None:
    result = doctor("me@127.0.0.1", "--json", settings='denied_targets = ["127.0.0.0/8"]')
    assert_fails_at(result, "name", "TARGET_FORBIDDEN")


def test_a_host_that_says_nothing(doctor: Doctor) -> None:
    with SilentHost() as silent:
        assert_fails_at(doctor(f"me@127.0.0.1:{silent.port}", "--json"), "banner", "NO_SSH_BANNER")


@contextmanager
def one_answer(answer: bytes) -> Iterator[int]:
    """A port where everybody gets this and no more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                sock.sendall(answer)
                with contextlib.suppress(OSError):  # the other side was faster
                    sock.shutdown(socket.SHUT_WR)
                sock.settimeout(10)
                try:
                    while sock.recv(4096):
                        pass
                except OSError:
                    pass

    thread = threading.Thread(target=serve, name="one-answer")
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)


@pytest.mark.parametrize(
    ("answer", "step", "code"),
    [
        (b"", "banner", "HANDSHAKE_CLOSED"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "banner", "HANDSHAKE_CLOSED"),
        (b"x" * 20000, "banner", "NO_SSH_BANNER"),
        (b"Welcome\r\nSSH-2.0-tired\r\n", "key exchange", "HANDSHAKE_CLOSED"),
    ],
)
def test_a_host_that_is_no_sshd_or_hangs_up(doctor: Doctor, answer: bytes, step: str, code: str) -> None:
    with one_answer(answer) as port:
        assert_fails_at(doctor(f"me@127.0.0.1:{port}", "--json"), step, code)


def test_no_algorithm_in_common(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with SshServer(tmp_path / "old", options={"Ciphers": "chacha20-poly1305@openssh.com"}) as server:
        assert_fails_at(doctor(address(server), "--json"), "key exchange", "NO_COMMON_ALGORITHM")


@pytest.mark.parametrize("known", [None, "another"])
def test_a_host_key_that_nobody_confirmed(
    doctor: Doctor, host: SshServer, state: Path, tmp_path: Path, known: str | None
) -> None:
    if known is not None:
        other = host._generate_key(tmp_path / "other", "ed25519")
        (state / "known_hosts").write_text(f"[{host.host}]:{host.port} {other}\n")
        (state / "known_hosts").chmod(0o600)
    before = {path: path.read_bytes() for path in state.iterdir()}
    found = assert_fails_at(doctor(address(host), "-i", str(host.client_key), "--json"), "host key", None)
    assert ("CHANGED" in found["host key"]["detail"]) is (known is not None)
    assert "runicorn-remote connect" in found["host key"]["hint"]
    assert {path: path.read_bytes() for path in state.iterdir()} == before


def test_a_login_that_is_refused(doctor: Doctor, host: SshServer, state: Path, tmp_path: Path) -> None:
    trust(state, host)
    host._generate_key(tmp_path / "wrong_key", "ed25519")
    result = doctor(address(host), "-i", str(tmp_path / "wrong_key"), "--json")
    assert_fails_at(result, "login", "AUTH_FAILED")


def test_forwarding_that_is_forbidden(doctor: Doctor, state: Path, tmp_path: Path) -> None:
    """What does not need it is looked at nevertheless."""
    (tmp_path / "host").mkdir()
    with SshServer(tmp_path / "host", options={"AllowTcpForwarding": "no"}) as server:
        trust(state, server)
        result = doctor(address(server), "-i", str(server.client_key), "--json")
        found = assert_fails_at(result, "forwarding", "CHANNEL_REFUSED")
    assert "AllowTcpForwarding" in found["forwarding"]["hint"]
    assert found["python"]["status"] == "ok"


def test_an_account_that_runs_no_scripts(doctor: Doctor, state: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    with SshServer(
        tmp_path / "host", options={"ForceCommand": "echo This account is limited; exit 3"}
    ) as server:
        trust(state, server)
        result = doctor(address(server), "-i", str(server.client_key), "--json")
    found = steps(result)
    assert (result.status, found["exec"]["status"], found["python"]["status"]) == (1, "failed", "skipped")
    assert "This account is limited" in found["exec"]["detail"]
    assert found["forwarding"]["status"] == "ok", found["forwarding"]


def test_a_host_without_python(doctor: Doctor, state: Path, tmp_path: Path) -> None:
    """Its sh runs our script, and finds none of the names under which it looks for one."""
    (tmp_path / "host").mkdir()
    shell = tmp_path / "shell"
    shell.write_text(
        "#!/bin/sh\n"
        "command=$SSH_ORIGINAL_COMMAND\n"
        'if [ "$command" = "sh -s" ]; then cat; else printf "%s\\n" "$command"; fi |'
        f" sed 's/python3/no-python3/g' | HOME={tmp_path} sh -s\n"
    )
    shell.chmod(0o700)
    with SshServer(tmp_path / "host", options={"ForceCommand": str(shell)}) as server:
        trust(state, server)
        result = doctor(address(server), "-i", str(server.client_key), "--json")
    assert_fails_at(result, "python", "PYTHON_NOT_FOUND")


def test_a_host_without_runicorn(doctor: Doctor, state: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    with SshServer(tmp_path / "host") as server:
        bare = make_stand_in(server.home / ".virtualenvs" / "bare", SERVES)
        for package in (bare / "lib").glob("python*/site-packages/runicorn*"):
            shutil.rmtree(package)
        trust(state, server)
        result = doctor(address(server), "-i", str(server.client_key), "--json")
        found = assert_fails_at(result, "runicorn", None)
    assert "pip install runicorn" in found["runicorn"]["hint"]


def test_a_target_that_is_none(doctor: Doctor) -> None:
    with pytest.raises(SystemExit) as ended:
        doctor("me@")
    assert ended.value.code == 2


# --- ways of ssh_config

with_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed (openssh-client)")


@pytest.fixture
def ssh_config(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration, and returns the setting that names it."""

    def write(text: str) -> str:
        path = tmp_path / "ssh_config"
        path.write_text(text)
        path.chmod(0o600)
        return f'ssh_config = "{path}"'

    return write


@with_ssh
def test_an_alias_through_a_jump_host(
    doctor: Doctor, host: SshServer, state: Path, tmp_path: Path, ssh_config: Callable[[str], str]
) -> None:
    """The first steps are about the jump host; a key nobody confirmed behind it shows at the login."""
    (tmp_path / "bastion").mkdir()
    with SshServer(tmp_path / "bastion") as bastion:
        settings = ssh_config(
            f"Host gpu\n HostName {host.host}\n Port {host.port}\n ProxyJump bastion\n"
            f"Host bastion\n HostName {bastion.host}\n Port {bastion.port}\n User {bastion.username}\n"
            f" IdentityFile {bastion.client_key}\n"
            f"Host *\n IdentityFile {host.client_key}\n"
        )
        trust(state, bastion)
        result = doctor(f"{host.username}@gpu", "--json", settings=settings)
        found = assert_fails_at(result, "login", None)
        assert "1 jump hosts on the way" in found["name"]["detail"]
        assert str(bastion.port) in found["TCP"]["detail"]
        assert f"[{host.host}]:{host.port}" in found["login"]["detail"]
        both = [*bastion.known_hosts_lines(), *host.known_hosts_lines()]
        (state / "known_hosts").write_text("\n".join(both) + "\n")
        assert doctor(f"{host.username}@gpu", "--json", settings=settings).status == 0


@with_ssh
def test_what_a_proxy_command_hides_is_skipped(
    doctor: Doctor, host: SshServer, state: Path, ssh_config: Callable[[str], str]
) -> None:
    program = (
        "import os, socket, sys, threading; s = socket.create_connection((sys.argv[1], int(sys.argv[2])));"
        "copy = lambda r, w: [os.write(w, d) for d in iter(lambda: os.read(r, 65536), b'')];"
        "threading.Thread(target=copy, args=(0, s.fileno()), daemon=True).start(); copy(s.fileno(), 1)"
    )
    command = f'{sys.executable} -c "{program}" {host.host} {host.port}'
    settings = ssh_config(
        f"Host gpu\n HostName {host.host}\n Port {host.port}\n ProxyCommand {command}\n"
        f" IdentityFile {host.client_key}\n"
    )
    trust(state, host)
    result = doctor(f"{host.username}@gpu", "--json", settings=settings)
    found = steps(result)
    assert result.status == 0, found
    statuses = [found[name]["status"] for name in STEPS]
    assert statuses == ["ok", *["skipped"] * 4, *["ok"] * 5]


def test_a_passphrase_is_asked_for_in_a_terminal(host: SshServer, state: Path, tmp_path: Path) -> None:
    key = encrypted_key(tmp_path / "key", "correct horse")
    authorized = host.directory / "authorized_keys"
    before = authorized.read_text()
    authorized.write_text(before + key.with_name("key.pub").read_text())
    trust(state, host)
    config = tmp_path / "settings.toml"
    config.write_text('port = 0\nkey_roots = ["/"]\n')
    files = ("--config", str(config), "--state-dir", str(state), "-i", str(key))
    try:
        with Terminal("doctor", address(host), *files) as terminal:
            terminal.expect("✓ host key")
            terminal.expect(f"Enter passphrase for key {key}: ")
            terminal.type("wrong")
            terminal.expect("Enter passphrase for key")
            terminal.type("correct horse")
            terminal.expect("✓ login")
            assert terminal.wait() == 0
            assert "correct horse" not in terminal.text
    finally:
        authorized.write_text(before)
