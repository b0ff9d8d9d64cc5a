"""`start`, `stop`, `logs`, `ls`."""

from __future__ import annotations

import os
import sys
import webbrowser
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from runicorn_remote.cli.failures import FAILED, Failure, not_found
from runicorn_remote.cli.login import Login, credential_options, login_of
from runicorn_remote.cli.output import is_terminal, printable, say
from runicorn_remote.cli.phases import PhaseWatch, display_for
from runicorn_remote.cli.profiles import chosen, saved_option
from runicorn_remote.cli.resources import ask_all
from runicorn_remote.cli.status import print_status, watch_status
from runicorn_remote.cli.target import AssignmentType, PortType, Target, target_argument
from runicorn_remote.cli.verb import TOKEN_VARIABLE, Verb, client_verb

if TYPE_CHECKING:
    from runicorn_remote.client.shapes import ViewerLog, ViewerSession


@click.command()
@target_argument(required=False)
@click.option("--root", metavar="DIR", help="The storage directory on the host.")
@click.option("--env", metavar="NAME", help="The Python environment that has runicorn; see envs.")
@click.option("--local-port", type=PortType(), metavar="PORT", help="The port to open here (any free one).")
@click.option(
    "--remote-port", type=PortType(), metavar="PORT", help="The viewer's port there (any free one)."
)
@click.option(
    "--launch-arg",
    "launch_args",
    multiple=True,
    type=AssignmentType(),
    metavar="NAME=VALUE",
    help="For the server's launch command of a cluster, such as job=123; may be repeated.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open it in the web browser.")
@saved_option
@credential_options
@client_verb
def start(
    verb: Verb,
    target: Target | None,
    root: str | None,
    env: str | None,
    local_port: int | None,
    remote_port: int | None,
    launch_args: tuple[tuple[str, str], ...],
    open_browser: bool,
    saved: str | None,
    credentials: dict[str, Any],
) -> None:
    """Start a viewer on a host and open a local port to it.

    Prints the viewer's address when it answers. It goes on until `stop`; Ctrl-C before that withdraws
    the start. Credentials are as with connect; without any, a connection that is open already serves.
    """
    choice = chosen(verb.client, target, saved)
    options = {
        "remote_root": root or choice.profile.get("remoteRoot"),
        "conda_env": env or choice.profile.get("condaEnv"),
        "local_port": local_port or choice.profile.get("localPort"),
        "remote_port": remote_port or choice.profile.get("remotePort"),
        "launch_args": dict(launch_args) or choice.profile.get("launchArgs"),
    }
    if not options["remote_root"]:
        raise click.UsageError("Missing option '--root': the storage directory on the host.")
    login = login_of(target, credentials, choice.server_id)
    session: ViewerSession = login.attempt(lambda **account: _start(verb, login, {**account, **options}))
    message = f"Remote Viewer ready at {session['url']}"
    verb.answer({"ok": True, "session": session, "message": message}, lambda: _tell(session))
    if open_browser:
        _open(session["url"])


@click.command()
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All viewers of the server, of whoever started them.")
@client_verb
def stop(verb: Verb, sessions: tuple[str, ...], everything: bool) -> None:
    """Stop viewers, or cancel their start; the beginning of an id is enough."""
    if everything == bool(sessions):
        raise click.UsageError("Give the SESSION to stop, or --all.")
    listed = [session["sessionId"] for session in verb.client.list_viewer_sessions()]
    wanted = listed if everything else [_full_id(session, listed) for session in dict.fromkeys(sessions)]
    stopped, failures = _stop_each(verb, wanted, missing_is_fine=everything)
    if failures:
        raise Failure(
            "; ".join(f"{session_id}: {reason}" for session_id, reason in failures.items()),
            exit_code=FAILED,
            code="STOP_FAILED",
        )
    verb.answer({"ok": True, "stopped": stopped}, lambda: _tell_stopped(stopped))


@click.command()
@click.argument("session", metavar="SESSION")
@click.option(
    "-n", "--tail", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many lines."
)
@client_verb
def logs(verb: Verb, session: str, tail: int) -> None:
    """Print the last lines a viewer has logged on its host; the beginning of its id is enough."""
    listed = [item["sessionId"] for item in verb.client.list_viewer_sessions()]
    answer = verb.client.viewer_log(_full_id(session, listed), tail)
    verb.answer(answer, lambda: _tell_log(answer))


@click.command("ls")
@click.option("--watch", is_flag=True, help="Show it live, until Ctrl-C.")
@click.option(
    "--resources/--no-resources",
    default=True,
    help="Ask the hosts how busy they are: load, memory, GPUs, disk (on by default).",
)
@client_verb
def list_all(verb: Verb, watch: bool, resources: bool) -> None:
    """List connections and viewers, and how busy the hosts are.

    A host that does not say within 5 seconds holds up nobody.
    """
    if not watch:
        status = verb.client.status()
        found = ask_all(status, verb.new_client) if resources else None
        document = status if found is None else {**status, "resources": found}
        verb.answer(document, lambda: print_status(status, found))
        return
    if verb.as_json:
        raise click.UsageError("--json prints one document; it cannot --watch")
    if not is_terminal(sys.stdout):
        raise click.UsageError("--watch needs a terminal")
    watch_status(verb.client, verb.new_client if resources else None)


# --- the steps of a start


def _start(verb: Verb, login: Login, arguments: dict[str, Any]) -> ViewerSession:
    def is_ours(session: Any) -> bool:
        known = {"status": "connecting", **login.account}
        return all(session[name] == value for name, value in known.items())

    with PhaseWatch(verb.new_client, is_ours, lambda: display_for(verb.as_json)):
        # The half of `client.viewer` that takes a start back when Ctrl-C or a time-out ends the wait.
        return verb.client._start_or_withdraw(arguments)  # type: ignore[arg-type]


def _tell(session: ViewerSession) -> None:
    """The address to stdout, for `$(...)`; the rest beside it."""
    runicorn = f"runicorn {session['runicornVersion']}" if session["runicornVersion"] else "runicorn"
    node = f", node {session['node']}" if session["node"] else ""
    say(
        f"{runicorn} in {session['condaEnv']} shows {session['remoteRoot']} on "
        f"{session['username']}@{session['host']}{node}\n"
        f"To stop it: runicorn-remote stop {session['sessionId']}"
    )
    click.echo(printable(session["url"]))


def _tell_log(log: ViewerLog) -> None:
    for line in log["lines"]:
        click.echo(printable(line))
    if not log["live"]:
        seen = datetime.fromtimestamp(log["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
        say(f"The host cannot be asked now; this is what it said at {seen}")


def _open(url: str) -> None:
    # The browser is nobody who needs to know it.
    os.environ.pop(TOKEN_VARIABLE, None)
    if not webbrowser.open(url):
        say(f"No web browser could be started; open {url} yourself")


# --- the steps of a stop


def _full_id(given: str, listed: list[str]) -> str:
    """Raises `Failure` if there is no such session, `UsageError` if there are several."""
    found = [given] if given in listed else [one for one in listed if given and one.startswith(given)]
    if not found:
        raise not_found(f"There is no viewer {given}", "SESSION_NOT_FOUND", "See: runicorn-remote ls")
    if len(found) > 1:
        raise click.UsageError(f"{given} is the beginning of several: {', '.join(found)}")
    return found[0]


def _stop_each(verb: Verb, wanted: list[str], *, missing_is_fine: bool) -> tuple[list[str], dict[str, str]]:
    """-> the ids of those that were stopped, and why others were not."""
    from runicorn_remote.client import RunicornRemoteError, SessionNotFound

    stopped, failures = [], {}
    for session_id in wanted:
        try:
            verb.client.stop_viewer(session_id=session_id)
            stopped.append(session_id)
        except SessionNotFound as error:
            if not missing_is_fine:
                failures[session_id] = str(error)
        except RunicornRemoteError as error:
            failures[session_id] = str(error)
    return stopped, failures


def _tell_stopped(stopped: list[str]) -> None:
    for session_id in stopped:
        click.echo(f"Stopped {printable(session_id)}")
    if not stopped:
        say("There is no viewer")
