"""What ssh_config(5) says of a host: asked of OpenSSH itself, else read by paramiko.

`ssh -G` is the one reader that knows Include, Match and every default exactly as `ssh host` does. It
is asked only if the files hold a word that matters here: most hosts have a system-wide file without
any, and a process costs 10 ms. Where there is no OpenSSH, paramiko reads the same text; what it
cannot evaluate is refused, never guessed.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from runicorn_remote.errors import SshConfigUnusable
from runicorn_remote.ssh.openssh import ask_openssh
from runicorn_remote.ssh.ssh_config_files import ConfigText, read_config, ssh_home
from runicorn_remote.ssh.ssh_config_tokens import expand_path, expand_tokens, local_user, tokens_of
from runicorn_remote.ssh.target import is_shell_safe

logger = logging.getLogger(__name__)

SSH_PORT = 22

# Without any of these words a configuration changes nothing for us.
_MATTERS = {
    "canonicalizehostname",
    "certificatefile",
    "connecttimeout",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "port",
    "proxycommand",
    "proxyjump",
    "user",
}
# What `ssh -G` lists when no IdentityFile is configured; versions differ in a few.
_DEFAULT_NAMES = frozenset(
    f"~/.ssh/id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss")
)
_FEWEST_DEFAULTS = 4


@dataclass(frozen=True)
class HostOptions:
    """What is configured for one host, with tokens and `~` filled in.

    `identity_files` None: none is configured, ssh's default ones count. `identity_agent` None: the
    one of SSH_AUTH_SOCK; "none": none; else a socket's path. `connect_timeout` in seconds. Jumps come
    as ProxyJump spells them; one of `proxy_jump` and `proxy_command` at most is set.
    """

    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...] | None = None
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    connect_timeout: float | None = None
    host_key_alias: str | None = None


class SshConfig:
    """Looks hosts up. Stateless: files are read anew each time. Any thread."""

    def __init__(self, source: str, *, commands: bool, timeout: float, program: str | None) -> None:
        """`source`: "auto", ssh's own files; "off"; or a file.

        `commands`: whether it may run commands (ProxyCommand, Match exec). `timeout`: seconds for one
        lookup. `program`: OpenSSH's ssh; None: there is none.
        """
        self._source = source
        self._commands = commands
        self._timeout = timeout
        self._program = program

    def options(self, name: str, port: int | None = None, user: str | None = None) -> HostOptions:
        """What is configured for the host a user calls `name`; `port` and `user` win over the files.

        `name` and `user` must have the grammar of `Target`. May take up to the time-out. Raises
        `SshConfigUnusable`.
        """
        files = self._files()
        text = read_config(files) if files else None
        if text is None or not text.keywords & _MATTERS:
            return HostOptions(name, port or SSH_PORT, user or local_user())
        self._check_commands(text, user)
        if self._program is not None:
            found = ask_openssh(
                self._program, self._arguments(files), name, port, user, timeout=self._timeout
            )
        else:
            # paramiko takes a while to load, and the command line asks here too.
            from runicorn_remote.ssh.ssh_config_reader import read_with_paramiko

            found = read_with_paramiko(text, name, port, user)
        try:
            options = _options(name, found)
        except ValueError as error:
            raise SshConfigUnusable(f"ssh_config, for {name}: {error}") from error
        if options.proxy_command is not None and not self._commands:
            raise SshConfigUnusable(
                f"ssh_config has a ProxyCommand for {name}, and this server is set to run none",
                code="SSH_CONFIG_COMMANDS_OFF",
                hint=_COMMANDS_HINT,
            )
        return options

    def _files(self) -> list[tuple[Path, Path]]:
        """The files to read, each with the directory of its relative includes."""
        if self._source == "off":
            return []
        own = ssh_home() / ".ssh"
        if self._source != "auto":
            path = Path(self._source).expanduser()
            if not path.exists():
                raise SshConfigUnusable(
                    f"{path} does not exist", hint='The setting ssh_config names it; "auto" is ssh\'s own.'
                )
            return [(path, own)]
        system = _system_directory()
        files = [(Path.home() / ".ssh" / "config", own), (system / "ssh_config", system)]
        return [(path, directory) for path, directory in files if path.exists()]

    def _arguments(self, files: list[tuple[Path, Path]]) -> list[str]:
        """How to have ssh read the files that were looked at."""
        if self._source == "auto" and Path.home() == ssh_home():
            return []
        # ssh does not look at HOME. With a file of our choice it reads no other.
        return ["-F", str(files[0][0].absolute())]

    def _check_commands(self, text: ConfigText, user: str | None) -> None:
        if text.match_exec is None:
            return
        if not self._commands:
            raise SshConfigUnusable(
                f"{text.match_exec} would run a command (Match exec), and this server is set to run none",
                code="SSH_CONFIG_COMMANDS_OFF",
                hint=_COMMANDS_HINT,
            )
        if user is not None and not is_shell_safe(user):
            raise SshConfigUnusable(
                f"{text.match_exec} runs a command, and the user name has characters that mean "
                "something to a shell"
            )


_COMMANDS_HINT = 'The setting ssh_config_commands allows it; ssh_config = "off" ignores the files.'


def _system_directory() -> Path:
    if os.name == "nt":
        return Path(os.environ.get("PROGRAMDATA", "C:\\ProgramData")) / "ssh"
    return Path("/etc/ssh")


def _options(name: str, found: dict[str, list[str]]) -> HostOptions:
    """From keywords in small letters, as `ssh -G` prints them. Raises `ValueError`."""

    def first(keyword: str) -> str | None:
        value = next(iter(found.get(keyword, ())), None)
        return None if value is None or value.lower() == "none" else value

    hostname = (first("hostname") or name).lower()
    port, user, alias = int(first("port") or SSH_PORT), first("user") or local_user(), first("hostkeyalias")
    tokens = tokens_of(name, hostname, port, user, alias)
    proxy_jump, proxy_command = first("proxyjump"), first("proxycommand")
    if first("proxyusefdpass") == "yes" and proxy_command:
        raise ValueError("ProxyUseFdpass cannot be used here")
    agent = next(iter(found.get("identityagent", ())), None)
    timeout = first("connecttimeout")
    return HostOptions(
        hostname=hostname,
        port=port,
        user=user,
        identity_files=_identity_files(found.get("identityfile", []), tokens),
        certificate_files=_paths(found.get("certificatefile", []), tokens),
        identities_only=first("identitiesonly") == "yes",
        identity_agent=_agent(agent, tokens),
        proxy_jump=expand_tokens(proxy_jump, tokens) if proxy_jump else None,
        proxy_command=expand_tokens(proxy_command, tokens) if proxy_command else None,
        connect_timeout=float(timeout) if timeout and float(timeout) > 0 else None,
        host_key_alias=alias,
    )


def _identity_files(values: list[str], tokens: dict[str, str]) -> tuple[str, ...] | None:
    if not values or (len(values) >= _FEWEST_DEFAULTS and _DEFAULT_NAMES.issuperset(values)):
        return None
    return _paths(values, tokens)


def _paths(values: list[str], tokens: dict[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(expand_path(value, tokens) for value in values if value.lower() != "none"))


def _agent(value: str | None, tokens: dict[str, str]) -> str | None:
    if value is None or value == "SSH_AUTH_SOCK":
        return None
    if value.lower() == "none":
        return "none"
    if value.startswith("$") and not value.startswith("${"):  # the name of a variable
        return os.environ.get(value[1:]) or "none"
    return expand_path(value, tokens)
