"""Builds home directories as the tools leave them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

INTERPRETER = os.path.realpath(sys.executable)


def make_python(prefix: Path, name: str = "python") -> Path:
    """An interpreter at a prefix: a link, as in a virtual environment."""
    python = prefix / "bin" / name
    python.parent.mkdir(parents=True, exist_ok=True)
    python.symlink_to(INTERPRETER)
    return python


def make_fake_python(directory: Path, version: str, name: str = "python3") -> Path:
    """A program that only tells its version, and writes down that it was asked."""
    directory.mkdir(parents=True, exist_ok=True)
    python = directory / name
    python.write_text(f'#!/bin/sh\necho asked >> "$0.log"\necho Python {version}\n')
    python.chmod(0o755)
    return python


def make_conda(prefix: Path, version: str = "3.11.7") -> Path:
    """An environment of the conda family."""
    make_python(prefix)
    meta = prefix / "conda-meta"
    meta.mkdir()
    (meta / "history").touch()
    for package in (
        f"python-{version}-h955ad1f_0_cpython",
        "python-dateutil-2.8.2-pyhd3eb1b0_0",
        "python_abi-3.9-2_cp39",
    ):
        (meta / f"{package}.json").write_text("{}")
    return prefix


def make_conda_root(prefix: Path, *environments: str, version: str = "3.12.1") -> Path:
    """An installation with its base and some environments."""
    make_conda(prefix, version)
    (prefix / "condabin").mkdir()
    for name in environments:
        make_conda(prefix / "envs" / name)
    return prefix


def make_venv(prefix: Path, *lines: str) -> Path:
    """A virtual environment with this `pyvenv.cfg`."""
    make_python(prefix)
    config = lines or ("home = /usr/bin", "include-system-site-packages = false", "version = 3.11.7")
    (prefix / "pyvenv.cfg").write_text("\n".join(config) + "\n")
    return prefix


def make_build(prefix: Path, version: str) -> Path:
    """A Python as built from source (pyenv) or unpacked (uv)."""
    make_python(prefix)
    include = prefix / "include" / ("python" + ".".join(version.split(".")[:2]))
    include.mkdir(parents=True)
    include.joinpath("patchlevel.h").write_text(
        f'/* The version */\n#define PY_MINOR_VERSION 1\n#define PY_VERSION      \t"{version}"\n'
    )
    return prefix


def install_runicorn(prefix: Path, version: str, series: str = "3.11", *, lib: str = "site-packages") -> Path:
    """Runicorn as pip installs it."""
    return make_dist_info(prefix / "lib" / f"python{series}" / lib, "runicorn", version)


def make_dist_info(site: Path, name: str, version: str) -> Path:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: not this one\n"
    )
    return info
