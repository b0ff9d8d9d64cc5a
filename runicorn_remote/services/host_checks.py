"""A host, from its name to its runicorn: each step by itself, in the order in which a viewer needs them."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable
from dataclasses import replace

from runicorn_remote import onhost
from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    HostKeyConfirmationRequired,
    PassphraseRequired,
    PassphraseWrong,
    RemoteError,
)
from runicorn_remote.services.checks import Checks, Doubt
from runicorn_remote.services.environments import Environments
from runicorn_remote.services.survey import Environment
from runicorn_remote.settings import Settings
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.handshake import Handshake, check_forwarding
from runicorn_remote.ssh.host import RemoteHost
from runicorn_remote.ssh.interactive import Person
from runicorn_remote.ssh.known_hosts_file import KnownHostsFile
from runicorn_remote.ssh.target import Credentials, Target

STEPS = (
    "name",
    "TCP",
    "banner",
    "key exchange",
    "host key",
    "login",
    "exec",
    "forwarding",
    "python",
    "runicorn",
)
# Logs of both sides are compared by time; one-time passwords stop working much earlier than certificates.
_MOST_SKEW = 60
HINTS = {
    "HOST_NOT_FOUND": "Check the spelling, and that this machine's DNS knows it: getent hosts NAME",
    "CONNECT_TIMEOUT": "Is the host up? A firewall, or a VPN that is off, looks the same.",
    "NO_ROUTE": "Is the network, or the VPN, up?",
    "NO_SSH_BANNER": "Is that the port of sshd? If it is, sshd is overloaded or a firewall holds it back.",
    "HANDSHAKE_CLOSED": "sshd hung up; its log says why (MaxStartups, a block list such as fail2ban).",
    "HANDSHAKE_TIMEOUT": "The connection is very slow, or loses large packets (a VPN's MTU): try ssh -v.",
    "CHANNEL_REFUSED": "Its sshd forbids forwarding for this account: AllowTcpForwarding, PermitOpen, "
    "DisableForwarding, or restrict in authorized_keys. Viewers cannot be reached without it.",
    "COMMAND_TIMEOUT": "A startup file of the login shell may be waiting for something (.bashrc, .profile).",
}
_NEW_ENVIRONMENT = "python3 -m venv ~/.virtualenvs/runs"
_INSTALL = "Install it there into the environment of your runs: pip install runicorn"

AskPassphrase = Callable[[], str | None]


class HostChecks:
    """The steps for one account. One thread; every wait has a time-out of the settings.

    Reads `known_hosts` and writes nothing, on neither side. `ask_passphrase`: asks a person for that of
    the key file; None when there is nobody. `person`: who answers a host that asks for a code.
    """

    def __init__(
        self,
        settings: Settings,
        target: Target,
        credentials: Credentials,
        ask_passphrase: AskPassphrase = lambda: None,
        person: Person | None = None,
    ) -> None:
        """Raises `ValueError` for target rules that cannot be used."""
        known_hosts = KnownHostsFile(settings.resolved_state_dir() / "known_hosts", read_only=True)
        self._settings = settings
        self._target = target
        self._credentials = credentials
        self._ask_passphrase = ask_passphrase
        self._person = person
        self._handshake = Handshake(target, settings, known_hosts)
        self._connector = Connector(settings, known_hosts)
        self._environments = Environments(settings.command_timeout, Clock())
        self._found: tuple[Environment, ...] = ()
        self._host: RemoteHost | None = None

    def run(self, checks: Checks) -> None:
        """What depends on a step that failed is skipped."""
        try:
            if self._up_to_host_key(checks):
                self._handshake.close()
                if checks.ask("login", self._login, self._gets_passphrase):
                    self._over_the_connection(checks)
        finally:
            self._handshake.close()
            if self._host is not None:
                self._host.close()
        done = {check.name for check in checks.all}
        for name in STEPS:
            if name not in done:
                checks.skip(name, "not tried")

    def _up_to_host_key(self, checks: Checks) -> bool:
        handshake = self._handshake
        if not checks.ask("name", handshake.resolve):
            return False
        steps: dict[str, Callable[[], str | Doubt]] = {
            "TCP": handshake.connect,
            "banner": handshake.read_banner,
            "key exchange": handshake.exchange_keys,
            "host key": lambda: self._about_host_key(handshake.judge_host_key),
        }
        if handshake.has_proxy_command:
            for name in steps:
                checks.skip(name, "its program makes the connection; see login")
            return True
        return all(checks.ask(name, question) for name, question in steps.items())

    def _over_the_connection(self, checks: Checks) -> None:
        runs = checks.ask("exec", self._exec)
        checks.ask("forwarding", self._forwarding)
        if runs and checks.ask("python", self._python):
            checks.ask("runicorn", self._runicorn)

    def _login(self) -> str | Doubt:
        """Over all hops; those behind the first show their host keys only here."""
        return self._about_host_key(self._logged_in)

    def _logged_in(self) -> str:
        self._host = self._connector(self._target, self._credentials, self._person)
        return f"as {self._target.username}"

    def _about_host_key(self, question: Callable[[], str]) -> str | Doubt:
        try:
            return question()
        except HostKeyConfirmationRequired as error:
            problem = error.problem
            what = f"{problem.key_type} {problem.fingerprint_sha256}"
            where = problem.known_hosts_host
            changed = f"{where} has CHANGED: {what}, and {problem.expected_fingerprint_sha256} is trusted"
            account = shlex.quote(self._target.connection_id)
            return Doubt(
                changed if problem.reason == "changed" else f"nobody has confirmed that of {where}: {what}",
                "Compare it with what the host's administrator says; then, with a server running: "
                f"runicorn-remote connect {account}, and answer with this fingerprint.",
                failed=True,
            )

    def _gets_passphrase(self, error: RemoteError) -> bool:
        if not isinstance(error, PassphraseRequired | PassphraseWrong):
            return False
        passphrase = self._ask_passphrase()
        self._credentials = replace(self._credentials, passphrase=passphrase)
        return passphrase is not None

    def _exec(self) -> str | Doubt:
        before = time.time()
        script = "echo @@doctor $(date +%s)\n"
        result = self._live.run_script(script, timeout=self._settings.command_timeout)
        answered = re.search(rb"^@@doctor ([0-9]{1,12})?", result.stdout, re.M)
        if answered is None:
            raise onhost.no_answer(result.stdout, result.stderr, result.exit_status)
        if answered[1] is None:
            return "sh runs scripts"
        theirs = int(answered[1])
        skew = max(before - theirs - 1, theirs - time.time(), 0.0)
        if skew > _MOST_SKEW:
            return Doubt(
                f"sh runs scripts; its clock and ours differ by {skew:.0f} s",
                "Set the clocks (NTP): times in logs and certificates do not fit otherwise.",
            )
        return "sh runs scripts; its clock agrees with ours"

    def _forwarding(self) -> str:
        check_forwarding(self._live, self._settings.channel_timeout)
        return "to the host's own ports"

    def _python(self) -> str | Doubt:
        self._found = self._environments.list(self._live)
        if not self._found:
            return Doubt("no environment was found", f"Make one: {_NEW_ENVIRONMENT}", failed=True)
        default = self._found[0]
        return f"{len(self._found)} environments; the default: {default.name}, {default.python_version}"

    def _runicorn(self) -> str | Doubt:
        having = [found for found in self._found if found.runicorn_version]
        if not having:
            return Doubt("in none of the environments", _INSTALL, failed=True)
        return ", ".join(f"{found.runicorn_version} in {found.name}" for found in having[:5])

    @property
    def _live(self) -> RemoteHost:
        assert self._host is not None
        return self._host
