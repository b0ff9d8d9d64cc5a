"""`runicorn-remote rotate-key`: a new key for the saved secrets."""

from __future__ import annotations

import click

from runicorn_remote.cli.failures import USAGE, Failure
from runicorn_remote.cli.output import say, write_json
from runicorn_remote.cli.verb import shared, shared_options


@click.command("rotate-key")
@click.option("--config", metavar="FILE", help="TOML file with settings, as for serve.")
@click.option("--state-dir", metavar="DIR", help="Where the saved connections are.")
@click.option(
    "--from",
    "came_from",
    type=click.Choice(["file", "keyring", "credential"]),
    help="Where the key was before the setting secret_key was changed.",
)
@shared_options
def rotate_key(config: str | None, state_dir: str | None, came_from: str | None) -> None:
    """Encrypt the saved secrets under a new key, in the place that the setting secret_key names.

    Asks no server; one of ours may run meanwhile. Restart a runicorn viewer that shares the directory.
    """
    from runicorn_remote.errors import StateError
    from runicorn_remote.services.key_rotation import rotate_key
    from runicorn_remote.services.secret_box import SecretBox
    from runicorn_remote.services.secret_keys import check_available, keys_in, places
    from runicorn_remote.settings import Settings, SettingsError

    try:
        settings = Settings.load(config, flags={"state_dir": state_dir})
        check_available(settings)
    except SettingsError as error:
        raise Failure(str(error), exit_code=USAGE, code="SETTINGS") from error
    directory = settings.resolved_state_dir()
    keys, earlier = places(settings)
    if came_from not in (None, "file", settings.secret_key):
        earlier.append(keys_in(str(came_from), directory))
    try:
        done = rotate_key(directory / "connections.json", SecretBox(keys, earlier))
    except StateError as error:
        raise Failure(str(error), code=error.code, hint=error.hint) from error
    if shared().as_json:
        write_json(
            {
                "ok": True,
                "secrets": done.secrets,
                "unreadable": done.unreadable,
                "removed": list(done.removed),
            }
        )
        return
    click.echo(f"Secrets under the new key: {done.secrets}")
    for name in done.removed:
        say(f"Removed, as nothing needs it any more: {name}")
    if done.unreadable:
        say(f"Secrets that no key opens, left as they were: {done.unreadable}")
