"""The machine the server runs on: what it needs, and what of that is there. Nothing is changed."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from runicorn_remote.errors import StateError
from runicorn_remote.peers import Peer, owner_of
from runicorn_remote.private_files import check_file
from runicorn_remote.services.checks import Checks, Doubt
from runicorn_remote.services.secret_keys import check_available
from runicorn_remote.services.state_files import inspect_state
from runicorn_remote.settings import Settings, SettingsError
from runicorn_remote.ssh.agent_keys import agent_keys
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile

_DISTRIBUTION = "runicorn-remote"
_OLDEST_PYTHON = (3, 10)
# A tunnel of a busy page takes a dozen, a few viewers some hundred.
_FEW_DESCRIPTORS = 4096
_LITTLE_DISK = 50 * 1024 * 1024
_LOOPBACK = "127.0.0.1"
_TIMEOUT = 2.0
_DAY = 86400


class MachineChecks:
    """One thread. `settings` are those of the server that is to run here."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state_dir = settings.resolved_state_dir()

    def run(self, checks: Checks) -> None:
        checks.ask("python", self._python)
        checks.ask("libraries", self._libraries)
        checks.ask("state", self._state)
        checks.ask("saved secrets", self._secret_key)
        checks.ask("known_hosts", self._known_hosts)
        if self._settings.token_file is not None:
            checks.ask("token", self._token)
        checks.ask("address", self._address)
        checks.ask("users", self._users)
        checks.ask("agent", self._agent)
        checks.ask("descriptors", self._descriptors)
        checks.ask("clock", self._clock)

    def _python(self) -> str | Doubt:
        found = f"{platform.python_version()}, {sys.executable}"
        if sys.version_info < _OLDEST_PYTHON:
            return Doubt(found, "Python 3.10 or newer is needed.", failed=True)
        return found

    def _libraries(self) -> str | Doubt:
        """Those that the installed package asks for, in the versions it was tested with."""
        try:
            wanted = [Requirement(text) for text in metadata.requires(_DISTRIBUTION) or ()]
        except metadata.PackageNotFoundError:
            return Doubt("this is no installed package", "Which versions it needs is in setup.cfg.")
        wrong = []
        for requirement in wanted:
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                wrong.append(f"{requirement.name} is missing")
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
        if wrong:
            return Doubt("; ".join(wrong), "Install the package again: pip install --upgrade .", failed=True)
        own = metadata.version(_DISTRIBUTION)
        return f"as required; runicorn-remote {own}, paramiko {metadata.version('paramiko')}"

    def _state(self) -> str | Doubt:
        findings = inspect_state(self._state_dir)
        if findings:
            worst = next((finding for finding in findings if finding.refused), findings[0])
            then = "does not start with it" if worst.refused else "closes it to others when it is used"
            return Doubt(worst.message, f"The server {then}.", failed=worst.refused)
        there = next(path for path in (self._state_dir, *self._state_dir.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            return Doubt(f"{there} cannot be written", "Choose another place with --state-dir.", failed=True)
        free = shutil.disk_usage(there).free
        if free < _LITTLE_DISK:
            return Doubt(f"{self._state_dir}: {free // 2**20} MiB are free", "Make room on the disk.")
        return f"{self._state_dir}{'' if there == self._state_dir else ', made when it is needed'}"

    def _secret_key(self) -> str | Doubt:
        if not self._settings.store_secrets:
            return "none are stored (store_secrets = false)"
        try:
            check_available(self._settings)
        except SettingsError as error:
            return Doubt(str(error), "The server does not start without it.", failed=True)
        return f"their key is in: {self._settings.secret_key}"

    def _known_hosts(self) -> str:
        hosts = KnownHostsFile(self._state_dir / "known_hosts", read_only=True).list()
        return f"{len(hosts)} host keys are trusted"

    def _token(self) -> str | Doubt:
        path = Path(str(self._settings.token_file)).expanduser()
        mode = check_file(path)
        if mode is None:
            raise StateError(f"{path} does not exist.", hint="Make one: openssl rand -hex 32; mode 0600.")
        if os.name != "nt" and mode & 0o077:
            return Doubt(f"{path} has mode {mode:o}, open to others", f"chmod 600 {path}")
        return str(path)

    def _address(self) -> str | Doubt:
        """Whether the server can listen where it is told to, or does already."""
        settings = self._settings
        if settings.unix_socket:
            path = Path(settings.unix_socket)
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(_TIMEOUT)
                probe.connect(str(path))
                return f"a server listens on {path}"
            return f"{path} is free"
        where = f"{settings.host} port {settings.port}"
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                if os.name != "nt":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((settings.host, settings.port))
            return f"{where} is free"
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                hint = "Choose an address of this machine, and a port above 1023."
                return Doubt(f"{where}: {error.strerror}", hint, failed=True)
        if name := self._who_answers():
            return f"{name} listens on {where}"
        return Doubt(
            f"something else listens on {where}",
            f"Find it: ss -ltnp 'sport = :{settings.port}'; or choose another port: serve --port 23400",
            failed=True,
        )

    def _who_answers(self) -> str | None:
        host = self._settings.host if self._settings.host not in ("0.0.0.0", "::") else _LOOPBACK
        connection = http.client.HTTPConnection(host, self._settings.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", "/api/health", headers={"Host": "localhost"})
            server = json.loads(connection.getresponse().read(65536))["server"]
            return f"{server['name']} {server['version']}"
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return None
        finally:
            connection.close()

    def _users(self) -> str | Doubt:
        """The look-up that keeps other users out, with a connection of our own."""
        if not self._settings.check_user:
            return Doubt("whose a local connection is, is not looked at", "Set check_user = true.")
        owner = None
        if hasattr(os, "geteuid"):
            with _connection_to_ourselves() as peer:
                owner = owner_of(peer)
        if owner is None or owner != os.geteuid():
            return Doubt(
                f"{sys.platform} does not tell whose a local connection is: all users can use the server",
                "Set token_file, or listen on a unix socket.",
            )
        return "other users of this machine are told apart"

    def _agent(self) -> str | Doubt:
        keys = agent_keys()
        if keys is None:
            return Doubt(
                "there is no SSH agent",
                "Fine with key files without a passphrase; else start one and load your key: ssh-add",
            )
        if not keys:
            return Doubt("the SSH agent has no keys", "Load yours: ssh-add")
        return f"{len(keys)} keys: {', '.join(keys[:5])}"

    def _descriptors(self) -> str | Doubt:
        try:
            import resource
        except ImportError:  # Windows
            return "no limit"
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < _FEW_DESCRIPTORS:
            return Doubt(f"at most {hard}", "Every connection through a tunnel is one: raise ulimit -Hn.")
        return "no limit" if hard == resource.RLIM_INFINITY else f"at most {hard}"

    def _clock(self) -> str | Doubt:
        installed = Path(__file__).stat().st_mtime
        now = time.strftime("%Y-%m-%d %H:%M:%S %z")
        if time.time() < installed - _DAY:
            return Doubt(f"{now}, before this program was installed", "Set the clock (NTP).", failed=True)
        return now


@contextlib.contextmanager
def _connection_to_ourselves() -> Iterator[Peer]:
    with (
        socket.create_server((_LOOPBACK, 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=_TIMEOUT) as client,
    ):
        yield Peer(client.getsockname(), listener.getsockname()[1], _LOOPBACK)
