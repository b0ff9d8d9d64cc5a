"""Where Runicorn's web page is: in an installed `runicorn` package, in a directory, or nowhere."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from runicorn_remote.settings import SettingsError

logger = logging.getLogger(__name__)

OFF = "off"
AUTO = "auto"


def find_web_ui(setting: str) -> Path | None:
    """The directory with the page's `index.html`, or None for the plain page.

    `setting` is `auto` (the installed `runicorn`, if there is one), `off`, or a directory. Raises
    `SettingsError` for a directory without an `index.html`.
    """
    if setting == OFF:
        return None
    if setting == AUTO:
        return _installed()
    directory = Path(setting).expanduser().resolve()
    if not (directory / "index.html").is_file():
        raise SettingsError(f"frontend: {directory} has no index.html; give a directory, auto or off")
    return directory


def _installed() -> Path | None:
    # find_spec does not import the package: runicorn's import starts things of its own.
    spec = importlib.util.find_spec("runicorn")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(location) / "webui"
        if (directory / "index.html").is_file():
            return directory.resolve()
    logger.info("No web page to serve: the runicorn package is not installed beside this server")
    return None
