"""The way to a host: the servers to log in to, one through the other, as ssh_config has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runicorn_remote.errors import InvalidValue, SshConfigUnusable
from runicorn_remote.ssh.known_hosts_match import SSH_PORT, exact_name
from runicorn_remote.ssh.ssh_config import HostOptions, SshConfig
from runicorn_remote.ssh.target import Target, is_shell_safe

MAX_JUMPS = 8

# [user@]host[:port], an IPv6 host in brackets; the user before the last `@`.
_JUMP = re.compile(
    r"(?:(?P<user>.+)@)?(?:\[(?P<address>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class Hop:
    """One server on the way.

    `target` is what is dialled. `key_host` and `key_port` are what known_hosts calls it: its HostName
    and port, or its HostKeyAlias, which has no port.
    """

    target: Target
    options: HostOptions
    key_host: str
    key_port: int
    is_jump: bool = False


@dataclass(frozen=True)
class _Jump:
    host: str
    port: int | None
    user: str | None


class Router:
    """Finds ways. Stateless; any thread. May wait for `ssh -G`, once a hop."""

    def __init__(self, config: SshConfig) -> None:
        self._config = config

    def route(self, target: Target) -> tuple[Hop, ...]:
        """The jump hosts in the order in which they are dialled, and last the target's own.

        The user name of `target` wins over that of the configuration, and so does its port, unless it
        is 22: that is also what callers say who say nothing. Raises `SshConfigUnusable`.
        """
        port = None if target.port == SSH_PORT else target.port
        hops = self._hops(_Jump(target.host, port, target.username), is_jump=False, via=None, seen=[])
        return tuple(hops)

    def _hops(self, jump: _Jump, *, is_jump: bool, via: list[_Jump] | None, seen: list[Target]) -> list[Hop]:
        """`via`: the jumps to take instead of the configured ones. `seen`: whom this is the way to."""
        options = self._config.options(jump.host, jump.port, jump.user)
        hop = _hop(jump.host, options, is_jump)
        if hop.target in seen:
            raise SshConfigUnusable(f"ssh_config: the way to {seen[0]} leads through {hop.target} twice")
        seen.append(hop.target)
        if len(seen) > MAX_JUMPS + 1:
            raise SshConfigUnusable(f"ssh_config: more than {MAX_JUMPS} jump hosts on the way to {seen[0]}")
        if via is None:
            via = _parse_jumps(options.proxy_jump)
        if not via:
            return [hop]
        # `ssh -J first,second host` runs `ssh -J first -W host second`: all but the last are its way.
        *before, last = via
        return [*self._hops(last, is_jump=True, via=before or None, seen=seen), hop]


def _hop(name: str, options: HostOptions, is_jump: bool) -> Hop:
    alias = options.host_key_alias
    try:
        target = Target.of(options.hostname, options.port, options.user)
        if alias is not None:
            exact_name(alias, SSH_PORT)
    except InvalidValue as error:
        raise SshConfigUnusable(f"ssh_config, for {name}: {error}") from error
    if options.proxy_command is not None and not is_shell_safe(options.user):
        raise SshConfigUnusable(
            f"ssh_config has a ProxyCommand for {name}, and the user name has characters that mean "
            "something to a shell"
        )
    return Hop(target, options, alias or target.host, SSH_PORT if alias else target.port, is_jump)


def _parse_jumps(text: str | None) -> list[_Jump]:
    """ProxyJump of ssh_config(5): `[user@]host[:port]` or `ssh://…`, with commas between them."""
    jumps = []
    for part in (text or "").split(","):
        word = part.strip()
        if not word:
            continue
        match = _JUMP.fullmatch(word.removeprefix("ssh://").rstrip("/"))
        if match is None:
            raise SshConfigUnusable(f"ssh_config: {word!r} is no jump host")
        host, port, user = match["address"] or match["host"], match["port"], match["user"]
        try:
            # What reaches ssh -G, and with it Match exec, has the same grammar as what callers give.
            Target.of(host, int(port or SSH_PORT), user or "user")
        except InvalidValue as error:
            raise SshConfigUnusable(f"ssh_config: jump host {word!r}: {error}") from error
        jumps.append(_Jump(host, int(port) if port else None, user))
    return jumps
