"""`runicorn-remote doctor`: what is wrong with this machine, or with the way to a host."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from runicorn_remote.cli.failures import FAILED, USAGE, Failure
from runicorn_remote.cli.login import ask_secret, credential_options, read_password
from runicorn_remote.cli.output import is_terminal, printable, say, write_json
from runicorn_remote.cli.target import SSH_PORT, Target, target_argument
from runicorn_remote.cli.verb import shared, shared_options

if TYPE_CHECKING:
    from runicorn_remote.services.checks import Check, Checks
    from runicorn_remote.settings import Settings
    from runicorn_remote.ssh.interactive import Question

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "-"}
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "white"}
_NAME_WIDTH = 14
_TIME_WIDTH = 9
_PATIENCE = 120.0  # seconds, for a person who looks for a code


@click.command()
@target_argument(required=False)
@click.option("--config", metavar="FILE", help="TOML file with settings, as for serve.")
@click.option("--state-dir", metavar="DIR", help="Where known_hosts and saved connections are.")
@credential_options
@shared_options
def doctor(
    target: Target | None, config: str | None, state_dir: str | None, credentials: dict[str, Any]
) -> None:
    """Check this machine; with a host also the way there, step by step.

    Asks no server, writes nothing, and trusts no key. Exit status 1 if something failed.
    """
    from runicorn_remote.errors import RemoteError
    from runicorn_remote.services.checks import Checks
    from runicorn_remote.services.host_checks import HINTS
    from runicorn_remote.services.machine_checks import MachineChecks
    from runicorn_remote.settings import Settings, SettingsError

    # What libraries log, the checks say in sentences.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        settings = Settings.load(config, flags={"state_dir": state_dir})
    except SettingsError as error:
        raise Failure(str(error), exit_code=USAGE, code="SETTINGS") from error
    as_json = shared().as_json
    tell = (lambda check: None) if as_json else _show
    machine, host = Checks(tell), Checks(tell, HINTS)
    if not as_json:
        _headline("This machine")
    MachineChecks(settings).run(machine)
    if target is not None:
        if not as_json:
            _headline(f"\n{target.connection_id}")
        try:
            _check_host(settings, target, credentials, host)
        except (RemoteError, ValueError) as error:
            raise Failure(str(error), exit_code=USAGE, code=getattr(error, "code", "USAGE")) from error
    passed = machine.passed and host.passed
    if as_json:
        document: dict[str, Any] = {"ok": passed, "machine": [_as_json(check) for check in machine.all]}
        if target is not None:
            document["host"] = [_as_json(check) for check in host.all]
        write_json(document)
    if not passed:
        raise click.exceptions.Exit(FAILED)


def _check_host(settings: Settings, target: Target, given: dict[str, Any], checks: Checks) -> None:
    from runicorn_remote.services.host_checks import HostChecks
    from runicorn_remote.ssh import target as ssh
    from runicorn_remote.ssh.interactive import Person

    account = ssh.Target.of(target.host, target.port or SSH_PORT, target.user)
    identity = given["identity"]
    credentials = ssh.Credentials(
        password=read_password(target, given), private_key_path=identity, use_agent=given["use_agent"]
    )

    def passphrase() -> str | None:
        if not is_terminal(sys.stdin):
            return None
        return ask_secret(f"Enter passphrase for key {identity}: ") or None

    person = Person(_answers, _PATIENCE) if is_terminal(sys.stdin) else None
    HostChecks(settings, account, credentials, passphrase, person).run(checks)


def _answers(question: Question) -> list[str]:
    """What a host asks for beside a password, such as a one-time code."""
    for line in (question.name, question.instructions):
        if line:
            say(line)
    return [
        click.prompt(printable(prompt.text), prompt_suffix="", default="", show_default=False, err=True)
        if prompt.echo
        else ask_secret(prompt.text)
        for prompt in question.prompts
    ]


def _as_json(check: Check) -> dict[str, Any]:
    return {
        "step": check.name,
        "status": check.status,
        "detail": check.detail,
        "duration_ms": None if check.seconds is None else round(check.seconds * 1000),
        "code": check.code,
        "hint": check.hint,
    }


def _headline(text: str) -> None:
    click.echo(click.style(printable(text, lines=True), bold=True))


def _show(check: Check) -> None:
    """One line, and one below it with what to do; `click` leaves colours out where there is no terminal."""
    mark = click.style(_MARKS[check.status], fg=_COLOURS[check.status])
    time = "" if check.seconds is None else f"{check.seconds * 1000:.0f} ms"
    detail = printable(" ".join(check.detail.split()))
    click.echo(f"{mark} {check.name:<{_NAME_WIDTH}}{time:>{_TIME_WIDTH}}  {detail}")
    if check.hint:
        click.echo(" " * (_NAME_WIDTH + _TIME_WIDTH + 4) + printable(check.hint))
