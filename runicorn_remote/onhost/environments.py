"""The Python environments of an account. Runs on the remote machine: Python >= 3.6, standard library.

Everything comes from files; only the system's own Python may be asked for its version, once.
"""

import os
import re
import subprocess
import sys
import time
from typing import Any, Iterator  # noqa: UP035

from runicorn_remote.onhost.conda import conda_places
from runicorn_remote.onhost.installed import installed_runicorn, prefix_sites, user_sites
from runicorn_remote.onhost.paths import children_of, native_path, wire_path
from runicorn_remote.onhost.prefixes import (
    interpreter_of,
    is_conda,
    runnable,
    series_of,
    venv_config,
    venv_type,
    version_at,
)
from runicorn_remote.onhost.private_places import PRIVATE_NAME, private_prefixes

MAX_ENVIRONMENTS = 200
# Seconds. A home on a slow network file system gives what was found by then.
_SEARCH_DEADLINE = 20.0
_VERSION_TIMEOUT = 10.0
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3")


def find(home: str, remote_root: "str | None" = None) -> "list[dict[str, Any]]":
    """The environments: `[{"name", "type", "python", "version", "prefix", "runicorn"}]`, the system's first.

    `python` is the interpreter, `version` what `python --version` says, `runicorn` a version or None.
    Names are unique and stay the same from call to call. `remote_root` adds those of its project.
    """
    deadline = time.monotonic() + _SEARCH_DEADLINE
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for kind, prefix, name in _places(home, remote_root):
        if len(found) >= MAX_ENVIRONMENTS - 1 or time.monotonic() > deadline:
            break
        real = os.path.realpath(prefix)
        environment = None if real in seen else _environment_at(kind, prefix, name, home)
        if environment:
            seen.add(real)
            found.append(environment)
    system = _system_environment(home, seen)
    return _with_unique_names(([system] if system else []) + found)


def find_one(
    name: "str | None",
    home: str,
    remote_root: "str | None" = None,
    found: "list[dict[str, Any]] | None" = None,
) -> "dict[str, Any] | None":
    """The environment a user means, or None if there is no such.

    `name` is a name from `find`, or the absolute path of an environment or of its interpreter (also of
    one that `find` does not know). None means the first that has runicorn, the system's before others; if
    none has it, the system's. `found` is what `find` gave, if the caller has it.
    """
    if found is None:
        found = find(home, remote_root)
    if name is None:
        having = [environment for environment in found if environment["runicorn"]]
        return next(iter(having or found), None)
    for environment in found:
        if name == environment["name"]:
            return environment
    if not name.startswith(("/", "~")):
        return None
    path = native_path(name, home)
    in_bin = os.path.basename(os.path.dirname(path)) == "bin" and os.path.basename(path).startswith("python")
    prefix = os.path.dirname(os.path.dirname(path)) if in_bin and runnable(path) else path
    for environment in found:
        # /usr holds several Pythons: there, only the very interpreter will do.
        wanted = (
            (path, environment["python"])
            if environment["type"] == "system"
            else (prefix, environment["prefix"])
        )
        if wire_path(wanted[0]) == wanted[1]:
            return environment
    # One at no usual place: it has to be a conda or virtual environment all the same.
    return _environment_at("any", prefix, prefix, home)


def _places(home: str, remote_root: "str | None") -> "Iterator[tuple[str, str, str]]":
    """Yields `(kind, prefix, plain name)`; most do not exist. The first of a name will keep it."""
    for prefix, name in conda_places(home):
        yield "conda", prefix, name
    environ = os.environ.get
    data = environ("XDG_DATA_HOME") or os.path.join(home, ".local/share")
    cache = environ("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    poetry_cache = environ("POETRY_CACHE_DIR") or os.path.join(cache, "pypoetry")
    pyenv_root = environ("PYENV_ROOT") or os.path.join(home, ".pyenv")
    for kind, directory in (
        ("any", environ("WORKON_HOME")),
        ("any", os.path.join(home, ".virtualenvs")),
        ("any", os.path.join(home, "venvs")),
        ("any", os.path.join(home, ".venvs")),
        ("any", os.path.join(home, "envs")),
        ("any", os.path.join(data, "virtualenvs")),
        ("any", os.path.join(data, "pipx/venvs")),
        ("any", os.path.join(home, ".local/pipx/venvs")),
        ("poetry", os.path.join(poetry_cache, "virtualenvs")),
        ("poetry", os.path.join(home, "Library/Caches/pypoetry/virtualenvs")),
        ("pyenv", os.path.join(pyenv_root, "versions")),
        ("uv", environ("UV_PYTHON_INSTALL_DIR") or os.path.join(data, "uv/python")),
        ("uv", environ("UV_TOOL_DIR") or os.path.join(data, "uv/tools")),
        ("pixi", os.path.join(environ("PIXI_HOME") or os.path.join(home, ".pixi"), "envs")),
    ):
        prefixes = children_of(directory) if directory and os.path.isabs(directory) else []
        for prefix in prefixes:
            yield kind, prefix, os.path.basename(prefix)
        if kind == "pyenv":
            # pyenv-virtualenv's own are linked from beside, so seen; these are those of pyenv's condas.
            for prefix in prefixes:
                for inner in children_of(os.path.join(prefix, "envs")):
                    yield "conda" if is_conda(inner) else "pyenv", inner, os.path.basename(inner)
    for name in (".venv", "venv"):
        yield "any", os.path.join(home, name), name
    for prefix in private_prefixes(home):
        yield "venv", prefix, PRIVATE_NAME
    if remote_root:
        yield from _project_places(native_path(remote_root, home))


def _project_places(root: str) -> "Iterator[tuple[str, str, str]]":
    """The environments of the project that a storage root belongs to: its own directory or the one above."""
    for project in (root, os.path.dirname(root)):
        project_name = " (" + (os.path.basename(project) or project) + ")"
        for name in (".venv", "venv"):
            yield "any", os.path.join(project, name), name + project_name
        for prefix in children_of(os.path.join(project, ".pixi", "envs")):
            yield "pixi", prefix, os.path.basename(prefix) + project_name


def _environment_at(kind: str, prefix: str, name: str, home: str) -> "dict[str, Any] | None":
    """The environment at `prefix`, or None if there is none of that kind that can be run and named."""
    python = interpreter_of(prefix)
    if not python or not wire_path(python) or not wire_path(name):
        return None
    config = venv_config(prefix)
    made_by = "conda" if is_conda(prefix) else venv_type(prefix, config)
    if (kind in ("conda", "pixi") and made_by != "conda") or (kind == "any" and not made_by):
        return None
    version = version_at(prefix, config)
    if not version:
        return None
    series = series_of(version)
    sites = prefix_sites(prefix, series)
    if made_by in ("conda", None):
        sites += user_sites(home, series)
    elif config.get("include-system-site-packages", "").lower() == "true":
        sites += user_sites(home, series)
        sites += prefix_sites(os.path.dirname(os.path.realpath(config.get("home", "/"))), series)
    return _answer_for(name, made_by if kind == "any" else kind, python, version, prefix, sites)


def _answer_for(
    name: str, kind: "str | None", python: str, version: str, prefix: str, sites: "list[str]"
) -> "dict[str, Any]":
    return {
        "name": wire_path(name),
        "type": kind,
        "python": wire_path(python),
        "version": "Python " + version,
        "prefix": wire_path(prefix),
        "runicorn": installed_runicorn(sites),
    }


def _system_environment(home: str, prefixes: "set[str]") -> "dict[str, Any] | None":
    """The first `python3` of the PATH that is not one of the environments; if there is no other, that one."""
    on_path = [
        os.path.join(directory, "python3")
        for directory in os.environ.get("PATH", "").split(os.pathsep)
        if os.path.isabs(directory)
    ]
    candidates = [path for path in on_path + list(_SYSTEM_PYTHONS) if runnable(path) and wire_path(path)]
    for path in [path for path in candidates if not _belongs_to(path, prefixes)] + candidates[:1]:
        version = _version_of(path)
        if version:
            prefix = os.path.dirname(os.path.realpath(os.path.dirname(path)))
            sites = _system_sites(path, prefix, home, series_of(version))
            return _answer_for("system", "system", path, version, prefix, sites)
    return None


def _belongs_to(path: str, prefixes: "set[str]") -> bool:
    """Whether an interpreter, or a link on its way, lies in one of the environments, or is pyenv's shim."""
    for _ in range(10):
        directory = os.path.realpath(os.path.dirname(path))
        if os.path.dirname(directory) in prefixes or os.path.basename(directory) == "shims":
            return True
        if not os.path.islink(path):
            break
        path = os.path.join(directory, os.readlink(path))
    return False


def _is_running(path: str) -> bool:
    """Whether `path` is the interpreter that runs this."""
    return bool(sys.executable) and os.path.realpath(path) == os.path.realpath(sys.executable)


def _version_of(path: str) -> "str | None":
    """What `python --version` says, without the word; None if it does not say it in time."""
    if _is_running(path):
        return sys.version.split()[0]
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT,
        ).stdout.decode("ascii", "replace")
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"^Python (\d+\.\d+[0-9a-z.+]{0,20})", answer, re.MULTILINE)
    return match.group(1) if match else None


def _system_sites(path: str, prefix: str, home: str, series: str) -> "list[str]":
    sites = user_sites(home, series)
    if _is_running(path) and not venv_config(os.path.dirname(os.path.dirname(path))):
        import site  # not before: we run without it

        return sites + site.getsitepackages()
    # Homebrew's and other linked interpreters look beside the link's target as well.
    behind_link = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    return sites + prefix_sites(prefix, series) + prefix_sites(behind_link, series)


def _with_unique_names(environments: "list[dict[str, Any]]") -> "list[dict[str, Any]]":
    """The first of a name keeps it; later ones say where they lie, with as much of the path as it takes."""
    taken = {"system"}
    for environment in environments:
        if environment["type"] == "system":
            continue
        name, prefix = environment["name"], environment["prefix"]
        for unique in (name, name + " (" + _surroundings(name, prefix) + ")", name + " (" + prefix + ")"):
            if unique not in taken:
                break
        environment["name"] = unique
        taken.add(unique)
    return environments


def _surroundings(name: str, prefix: str) -> str:
    """The directory that tells two environments of one name apart: for conda's, the installation."""
    if name == "base":
        return os.path.basename(prefix)
    parent = os.path.dirname(prefix)
    if os.path.basename(parent) in ("envs", "versions", "virtualenvs"):
        parent = os.path.dirname(parent)
    return os.path.basename(parent)
