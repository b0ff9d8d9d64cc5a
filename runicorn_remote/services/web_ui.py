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
    directory = Path(setting).expanduser().absolute()
    found = _with_index(directory)
    if found is None:
        raise SettingsError(f"frontend: {directory} has no index.html; give a directory, auto or off")
    return found


def _installed() -> Path | None:
    # find_spec does not import the package: runicorn's import starts things of its own.
    spec = importlib.util.find_spec("runicorn")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        found = _with_index(Path(location) / "webui")
        if found is not None:
            return found
    logger.info("No web page to serve: the runicorn package is not installed beside this server")
    return None


def _with_index(directory: Path) -> Path | None:
    """Where the page's files really are; None if there is no page.

    Some installers link every single file of a package to a store of theirs; what lies in `directory`
    would then be links out of it, which are not served.
    """
    index = directory / "index.html"
    try:
        return index.resolve().parent if index.is_file() else None
    except OSError as error:
        raise SettingsError(f"frontend: {directory} cannot be read: {error.strerror}") from error
