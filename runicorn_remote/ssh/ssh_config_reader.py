"""ssh_config read by paramiko, where OpenSSH is not installed.

It knows Host, Match (host, originalhost, user, localuser, all, canonical, final) and the keywords used
here; Include is filled in before. Refused, since a wrong answer would be worse: `Match exec` and
other criteria, and `Host` or `Match` in a file that is included within such a block.
"""

from __future__ import annotations

from typing import Any

import paramiko
from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

from runicorn_remote.errors import SshConfigUnusable
from runicorn_remote.ssh.ssh_config_files import ConfigText

_Config: Any = paramiko.SSHConfig  # the type stubs know only its public side


class _Raw(_Config):
    """Leaves tokens as they are, as `ssh -G` does: paramiko fills in fewer, and `~` wherever it stands."""

    def _expand_variables(self, config: Any, target_hostname: str) -> Any:
        if "hostname" in config:
            config["hostname"] = config["hostname"].replace("%h", target_hostname).replace("%%", "%")
        return config


def read_with_paramiko(
    text: ConfigText, host: str, port: int | None, user: str | None
) -> dict[str, list[str]]:
    """As `ask_openssh` answers, for what is configured. Raises `SshConfigUnusable`."""
    if text.match_exec is not None:
        raise SshConfigUnusable(f"{text.match_exec}: Match exec needs OpenSSH's ssh on this machine")
    if text.nested:
        raise SshConfigUnusable(
            "ssh_config: an Include within a Host block needs OpenSSH's ssh on this machine"
        )
    given = [f"User {user}"] if user is not None else []
    given += [f"Port {port}"] if port is not None else []
    try:
        config = _Raw.from_text("\n".join([*given, text.text]))
        found = config.lookup(host)
    except (ConfigParseError, CouldNotCanonicalize, ValueError, KeyError) as error:
        raise SshConfigUnusable(f"ssh_config cannot be read: {error}") from error
    answer = {
        keyword: [str(item) for item in value] if isinstance(value, list) else [str(value)]
        for keyword, value in found.items()
    }
    # Of the two, the first one counts. paramiko keeps the order, and reads "none" as None.
    proxies = [keyword for keyword in found if keyword in ("proxyjump", "proxycommand")]
    for later in proxies[1:]:
        del answer[later]
    return answer
