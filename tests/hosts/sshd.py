"""A real OpenSSH server for tests: unprivileged, on a free port of 127.0.0.1, gone without a trace.

    with SshServer(tmp_path) as server:
        connect(server.host, server.port, server.username, server.client_key)

It runs as the user who runs the tests (root or not) and lets that user in with `client_key`.
Everything it starts carries a token in its environment, so that `stop()` ends detached children too.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pytest

START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0
_PORT_ATTEMPTS = 5
# The setting of servers that are to read `client_key` and others below pytest's directories.
KEY_ROOTS = ("~", tempfile.gettempdir())
_TOKEN_VARIABLE = "TEST_SSHD_TOKEN"


class SshServer:
    """One sshd and all that its clients start.

    `directory` must exist; all files go there. `options` are lines of sshd_config that go before our
    own, hence win; a sequence as value repeats the keyword. `host_key_types` as `ssh-keygen -t` names
    them. `home` is HOME of sessions, by default a fresh `directory/home`. `environment` is added to
    that of sessions.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        directory: Path,
        *,
        host_key_types: Sequence[str] = ("ed25519",),
        options: Mapping[str, str | Sequence[str]] | None = None,
        authorized_keys: Iterable[str] = (),
        home: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._sshd = _find("sshd")
        self._keygen = _find("ssh-keygen")
        self.directory = directory
        self.home = home or directory / "home"
        self.port = 0
        self.username = _current_username()
        self.client_key = directory / "client_key"
        self.host_keys: dict[str, str] = {}  # "ssh-ed25519" -> "ssh-ed25519 AAAA…"
        self._options = dict(options or {})
        self._environment = dict(environment or {})
        self._token = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._create_files(host_key_types, authorized_keys)

    def __enter__(self) -> SshServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- running it

    def start(self) -> None:
        """Start sshd and wait until it answers. After `stop()`: again, on the same port."""
        if self._process is not None:
            raise RuntimeError("sshd runs already")
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for _ in range(attempts):
            port = self.port or _free_port(self.host)
            if self._start_on(port):
                self.port = port
                return
        raise RuntimeError(f"sshd did not start:\n{self.log()}")

    def stop(self) -> None:
        """End sshd, its connections and everything they started, also what has detached itself."""
        if self._process is None:
            return
        deadline = time.monotonic() + STOP_TIMEOUT
        while (pids := self._all_pids()) and time.monotonic() < deadline:
            _kill(pids, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        self._process.wait(STOP_TIMEOUT)
        self._process = None

    def kill_connections(self) -> None:
        """End every connection and what it started; the server goes on listening."""
        _kill(self._connection_pids(), signal.SIGKILL)

    def freeze_connections(self) -> None:
        """Stop the connections' processes: their sockets stay open and nothing answers any more."""
        _kill(self._connection_pids(), signal.SIGSTOP)

    def thaw_connections(self) -> None:
        _kill(self._connection_pids(), signal.SIGCONT)

    def log(self) -> str:
        """What sshd wrote so far."""
        path = self.directory / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def known_hosts_lines(self) -> list[str]:
        """Our host keys as lines of a known_hosts file."""
        return [f"[{self.host}]:{self.port} {key}" for key in self.host_keys.values()]

    # --- files

    def _create_files(self, host_key_types: Sequence[str], authorized_keys: Iterable[str]) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for key_type in host_key_types:
            public = self._generate_key(self.directory / f"host_key_{key_type}", key_type)
            self.host_keys[public.split()[0]] = public
        own = self._generate_key(self.client_key, "ed25519")
        (self.directory / "authorized_keys").write_text("\n".join([own, *authorized_keys]) + "\n")

    def _generate_key(self, path: Path, key_type: str) -> str:
        """-> the public half, `type base64`."""
        subprocess.run(
            [self._keygen, "-q", "-t", key_type, "-N", "", "-C", "", "-f", path], check=True, timeout=30
        )
        return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])

    def _configuration(self, port: int) -> str:
        environment = {"HOME": str(self.home), _TOKEN_VARIABLE: self._token, **self._environment}
        lines = [f"{keyword} {value}" for keyword, value in _pairs(self._options)]
        lines += [f"ListenAddress {self.host}:{port}"]
        lines += [
            f"HostKey {path}" for path in sorted(self.directory.glob("host_key_*")) if path.suffix != ".pub"
        ]
        lines += [
            f"AuthorizedKeysFile {self.directory / 'authorized_keys'}",
            f"PidFile {self.directory / 'sshd.pid'}",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "PrintMotd no",
            "Subsystem sftp internal-sftp",
            "SetEnv " + " ".join(f'"{name}={value}"' for name, value in environment.items()),
        ]
        if _version(self._sshd) >= (9, 8):
            lines.append("PerSourcePenalties no")
        return "\n".join(lines) + "\n"

    # --- processes

    def _start_on(self, port: int) -> bool:
        if os.geteuid() == 0 and sys.platform == "linux":
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        configuration = self.directory / "sshd_config"
        configuration.write_text(self._configuration(port))
        with (self.directory / "sshd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._sshd, "-D", "-e", "-f", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, _TOKEN_VARIABLE: self._token},
                start_new_session=True,
            )
        if self._wait_for_banner(port):
            return True
        self.stop()
        return False

    def _wait_for_banner(self, port: int) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.host, port), timeout=2) as probe,
            ):
                if probe.recv(4) == b"SSH-":
                    return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        return False

    def _connection_pids(self) -> set[int]:
        assert self._process is not None
        return self._all_pids() - {self._process.pid}

    def _all_pids(self) -> set[int]:
        assert self._process is not None
        pids = _pids_with_environment(f"{_TOKEN_VARIABLE}={self._token}")
        if self._process.poll() is None:
            return pids | _descendants(self._process.pid) | {self._process.pid}
        return pids - {self._process.pid}


def _find(program: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        reason = f"{program} is not installed (Debian: openssh-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return os.path.abspath(path)


def _current_username() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _version(sshd: str) -> tuple[int, int]:
    answer = subprocess.run([sshd, "-V"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _pairs(options: Mapping[str, str | Sequence[str]]) -> Iterable[tuple[str, str]]:
    for keyword, value in options.items():
        for item in (value,) if isinstance(value, str) else value:
            yield keyword, item


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _kill(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _descendants(root: int) -> set[int]:
    answer = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, timeout=10, check=True
    )
    rows = [
        (int(pid), int(parent))
        for pid, parent, state in map(str.split, answer.stdout.splitlines())
        if state[0] != "Z"
    ]
    found = {root}
    while more := {pid for pid, parent in rows if parent in found and pid not in found}:
        found |= more
    return found - {root}


def _pids_with_environment(assignment: str) -> set[int]:
    """Linux only; elsewhere a child that detached itself has to be ended by its test."""
    wanted = assignment.encode()
    pids = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in entry.read_bytes().split(b"\0"):
                pids.add(int(entry.parent.name))
    return pids
