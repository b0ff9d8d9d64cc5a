"""Which runicorn an interpreter would import, read from files. Runs on the remote machine: Python >= 3.6."""

import os
import re
import sys

from runicorn_remote.onhost.paths import names_in, text_of

_DISTRIBUTION = re.compile(r"runicorn-([0-9][^-]*)(?:-.+)?\.(dist-info|egg-info|egg)", re.IGNORECASE)
_VERSION_HEADER = re.compile(r"^Version:[ \t]*([^\s]+)", re.MULTILINE | re.IGNORECASE)
_METADATA_FILES = ("METADATA", "PKG-INFO", os.path.join("EGG-INFO", "PKG-INFO"), "")
_SITE_PACKAGES_LIMIT = 20000


def installed_runicorn(sites: "list[str]") -> "str | None":
    """The version in the first of the site directories that has runicorn, or None."""
    for site in sites:
        names = names_in(site, _SITE_PACKAGES_LIMIT)
        found = [_distribution_version(site, name) for name in names if name[:9].lower() == "runicorn-"]
        found += [_develop_version(site, name) for name in names if name in _DEVELOP_FILES]
        versions = [version for version in found if version]
        if versions:
            return max(versions, key=_version_key)
    return None


def _distribution_version(site: str, name: str) -> "str | None":
    """The version of a `runicorn-X.dist-info`, `.egg-info` or `.egg`; None if its metadata is gone."""
    match = _DISTRIBUTION.fullmatch(name)
    if not match:
        return None
    for metadata in _METADATA_FILES:
        path = os.path.join(site, name, metadata) if metadata else os.path.join(site, name)
        if os.path.isfile(path):
            return _version_header(path) or match.group(1)
    return None


_DEVELOP_FILES = ("runicorn.egg-link", "easy-install.pth")


def _develop_version(site: str, name: str) -> "str | None":
    """The version of a checkout that `setup.py develop` linked to; both files hold its directory."""
    for line in text_of(os.path.join(site, name)).splitlines()[:200]:
        if line.strip() and not line.startswith(("import ", "#")):
            source = os.path.join(site, line.strip())
            version = _version_header(os.path.join(source, "runicorn.egg-info", "PKG-INFO"))
            if version:
                return version
    return None


def _version_header(path: str) -> "str | None":
    match = _VERSION_HEADER.search(text_of(path).split("\n\n", 1)[0])
    return match.group(1) if match else None


def _version_key(version: str) -> "list[int]":
    return [int(number) for number in re.findall(r"\d+", version)]


def prefix_sites(prefix: str, series: str) -> "list[str]":
    """The site directories of the installation at `prefix`, whose Python is of the `series` `3.11`."""
    sites = []
    # The "t" is that of a free-threaded build.
    for lib_name in ("python" + series, "python" + series + "t"):
        if prefix == "/usr" and os.path.isdir("/usr/lib/python3/dist-packages"):
            # Debian keeps its own packages and those of pip apart from /usr/lib/pythonX.Y.
            sites.append("/usr/local/lib/" + lib_name + "/dist-packages")
            sites.append("/usr/lib/python3/dist-packages")
            sites.append("/usr/lib/" + lib_name + "/dist-packages")
            continue
        for root in ("/usr/local", prefix) if prefix == "/usr" else (prefix,):
            sites.append(os.path.join(root, "lib", lib_name, "site-packages"))
            sites.append(os.path.join(root, "lib64", lib_name, "site-packages"))
    return sites


def user_sites(home: str, series: str) -> "list[str]":
    """The user's own site directory (`pip install --user`), which every Python but a venv's looks into."""
    if os.environ.get("PYTHONNOUSERSITE"):
        return []
    base = os.environ.get("PYTHONUSERBASE")
    sites = [os.path.join(base or os.path.join(home, ".local"), "lib", "python" + series, "site-packages")]
    if sys.platform == "darwin" and not base:
        sites.append(os.path.join(home, "Library", "Python", series, "lib", "python", "site-packages"))
    return sites
