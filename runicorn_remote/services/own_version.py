"""Which runicorn this server speaks for, and what follows for hosts that have another."""

from __future__ import annotations

from functools import cache
from importlib import metadata

from packaging.version import InvalidVersion, Version

# The newest Runicorn whose Remote API this is.
IMPLEMENTED_VERSION = "0.7.2"
_INSTALL = "POST /api/remote/environments/install, or runicorn-remote install, puts it there."
# What hosts need of it: an idle viewer that ends itself.
_ENDS_ITSELF = Version("0.7")


@cache
def runicorn_version() -> str:
    """What the frontend compares with the version on a host: the `runicorn` installed beside us."""
    try:
        return metadata.version("runicorn")
    except metadata.PackageNotFoundError:
        return IMPLEMENTED_VERSION


def advice(theirs: str | None, ours: str | None = None) -> str | None:
    """What a person should know of the runicorn of an environment before a start; None if all is well.

    Only what matters: versions that differ in the third number work together.
    """
    ours = ours or runicorn_version()
    if theirs is None:
        return f"Runicorn is not installed in this environment. {_INSTALL}"
    try:
        there, here = Version(theirs), Version(ours)
    except InvalidVersion:
        return None
    if there.release[:2] == here.release[:2]:
        return None
    if there > here:
        return (
            f"Runicorn {theirs} in this environment is newer than {ours} beside this server, "
            "which may not know all it can: update the server's."
        )
    idle = " A viewer of it never ends itself, however long nobody looks." if there < _ENDS_ITSELF else ""
    return f"Runicorn {theirs} in this environment is older than {ours} beside this server.{idle} {_INSTALL}"
