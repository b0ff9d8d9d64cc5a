"""What kind of Python lies at a prefix, read from files. Runs on the remote machine: Python >= 3.6."""

import os
import re
from typing import Iterator  # noqa: UP035

from runicorn_remote.onhost.paths import names_in, text_of

_CONDA_PYTHON = re.compile(r"python-(\d+\.\d+[0-9a-z.]*)-[^-]+\.json")
_PATCHLEVEL = re.compile(r'^#define\s+PY_VERSION\s+"([^"]+)"', re.MULTILINE)
_LIB_NAME = re.compile(r"python(\d\.\d+)t?")
_VERSION = re.compile(r"\d+\.\d+[0-9a-z.+]{0,20}")
_RELEASE_LEVELS = {"alpha": "a", "beta": "b", "candidate": "rc"}


def interpreter_of(prefix: str) -> "str | None":
    """The interpreter of an environment, or None if there is none that can be run."""
    for name in ("python", "python3"):
        path = os.path.join(prefix, "bin", name)
        if runnable(path):
            return path
    return None


def runnable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def is_conda(prefix: str) -> bool:
    return os.path.isdir(os.path.join(prefix, "conda-meta"))


def venv_config(prefix: str) -> "dict[str, str]":
    """`pyvenv.cfg` as a dict with lower-case keys; empty if this is no virtual environment."""
    config = {}
    for line in text_of(os.path.join(prefix, "pyvenv.cfg")).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            config[key.strip().lower()] = value.strip()
    return config


def venv_type(prefix: str, config: "dict[str, str]") -> "str | None":
    """`uv`, `virtualenv` or `venv` by who made it; None if nobody did."""
    for maker in ("uv", "virtualenv"):
        if maker in config:
            return maker
    if config:
        return "venv"
    # virtualenv before 20 wrote no pyvenv.cfg.
    return "virtualenv" if os.path.isfile(os.path.join(prefix, "bin", "activate_this.py")) else None


def version_at(prefix: str, config: "dict[str, str]") -> "str | None":
    """`3.11.7`, or `3.11` where no file says more, or None. No interpreter is started."""
    for version in _versions_at(prefix, config):
        if _VERSION.fullmatch(version):
            return version
    return None


def _versions_at(prefix: str, config: "dict[str, str]") -> "Iterator[str]":
    """What the files say, the most trustworthy first."""
    for name in names_in(os.path.join(prefix, "conda-meta"), 20000):
        match = _CONDA_PYTHON.fullmatch(name)
        if match:
            yield match.group(1)
    yield _of_version_info(config.get("version_info", ""))
    yield config.get("version", "")
    for name in names_in(os.path.join(prefix, "include")):
        if name.startswith("python"):
            match = _PATCHLEVEL.search(text_of(os.path.join(prefix, "include", name, "patchlevel.h")))
            if match:
                yield match.group(1)
    for name in names_in(os.path.join(prefix, "lib")):
        match = _LIB_NAME.fullmatch(name)
        if match:
            yield match.group(1)


def _of_version_info(version_info: str) -> str:
    """`3.13.0.candidate.1` -> `3.13.0rc1`, as `python --version` writes it."""
    parts = version_info.split(".")
    if len(parts) == 5 and parts[3] in _RELEASE_LEVELS:
        return ".".join(parts[:3]) + _RELEASE_LEVELS[parts[3]] + parts[4]
    return ".".join(parts[:3])


def series_of(version: str) -> str:
    """`3.11.7` -> `3.11`."""
    return re.sub(r"^(\d+\.\d+).*", r"\1", version)
