"""Which launch command a host's viewers need, under whatever name the host is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from runicorn_remote.services.launch_templates import LaunchTemplates
from runicorn_remote.ssh.route import Router
from runicorn_remote.ssh.target import Target


class LaunchCommands:
    """Stateless; any thread. May wait for `ssh -G` if there are templates at all."""

    def __init__(self, templates: LaunchTemplates, router: Router) -> None:
        self._templates = templates
        self._router = router

    def command(self, target: Target, values: Mapping[str, str] | None) -> list[str] | None:
        """The words of the launch command, or None: viewers run on the host itself.

        A template may mean the name a caller gave, or the HostName that ssh_config has for it. Raises
        `LaunchArgumentsUnusable`, `SshConfigUnusable`.
        """
        hosts = [target.host]
        if self._templates:
            hosts.append(self._router.route(target)[-1].target.host)
        return self._templates.command(hosts, values)

    def check(self, target: Target, values: Mapping[str, str] | None) -> None:
        """Raises what `command` raises: before anything is asked of the host."""
        self.command(target, values)
