"""Where the conda family keeps environments. Runs on the remote machine: Python >= 3.6, standard library."""

import os
import re
from typing import Iterable, Iterator  # noqa: UP035

from runicorn_remote.onhost.paths import children_of, text_of
from runicorn_remote.onhost.prefixes import is_conda, runnable

_HOME_ROOTS = (
    "anaconda3",
    "miniconda3",
    "anaconda",
    "miniconda",
    "miniforge3",
    "mambaforge",
    "micromamba",
    ".local/share/mamba",
)
_OPT_ROOTS = ("conda", "anaconda3", "miniconda3", "miniforge3", "mambaforge")
_LOCAL_ROOTS = ("anaconda3", "miniconda3", "miniforge3")
_BREW_ROOTS = ("anaconda3", "miniconda", "miniforge", "mambaforge")
# A non-interactive login does not run what `conda init` wrote into these; the path is in there.
_STARTUP_FILES = (
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zprofile",
    ".tcshrc",
    ".cshrc",
    ".config/fish/config.fish",
)
_INITIALISED = re.compile(
    r"""((?:/|~/|\$HOME/|\$\{HOME\}/)[^\s'"`;:()$]{0,255}?)
        /(?:(?:bin|condabin)/(?:conda|mamba|micromamba)|etc/profile\.d/(?:conda|mamba|micromamba)\.c?sh)\b
        |MAMBA_ROOT_PREFIX[=\s]+['"]?([^\s'"`;:()]+)""",
    re.VERBOSE,
)
_CONDARC_LIST = re.compile(r"^envs_(?:dirs|path):[ \t]*(.*(?:\n[ \t]*-.*)*)", re.MULTILINE)


def conda_places(home: str) -> "Iterator[tuple[str, str]]":
    """Yields `(prefix, plain name)` of every candidate: an installation's own is `base`."""
    listed = _lines(os.path.join(home, ".conda", "environments.txt"), home)
    roots = _conda_roots(home, listed)
    for root in roots:
        yield root, "base"
    env_dirs = [os.path.join(root, "envs") for root in roots]
    env_dirs.append(os.path.join(home, ".conda", "envs"))
    env_dirs += _configured_env_dirs(home, roots)
    for directory in _once(env_dirs):
        for prefix in children_of(directory):
            yield prefix, os.path.basename(prefix)
    for prefix in listed:
        yield prefix, os.path.basename(prefix)


def _conda_roots(home: str, listed: "list[str]") -> "list[str]":
    """Installations (and micromamba's root prefixes), whether or not they exist."""
    roots = []
    for prefix in listed:
        if os.path.basename(os.path.dirname(prefix)) == "envs":
            roots.append(os.path.dirname(os.path.dirname(prefix)))
        elif _is_installation(prefix):
            roots.append(prefix)
    for executable in (os.environ.get("CONDA_EXE"), os.environ.get("MAMBA_EXE"), _on_path("conda")):
        if executable and os.path.isabs(executable):
            roots.append(os.path.dirname(os.path.dirname(executable)))
    roots.append(os.environ.get("MAMBA_ROOT_PREFIX", ""))
    for name in _STARTUP_FILES:
        for match in _INITIALISED.finditer(text_of(os.path.join(home, name))):
            roots.append(_expanded(match.group(1) or match.group(2), home))
    roots += [os.path.join(home, name) for name in _HOME_ROOTS]
    roots += ["/opt/" + name for name in _OPT_ROOTS]
    roots += ["/usr/local/" + name for name in _LOCAL_ROOTS]
    roots += ["/opt/homebrew/Caskroom/" + name + "/base" for name in _BREW_ROOTS]
    # A `conda` on the PATH may be /usr/bin/conda: no installation to list environments of.
    return [root for root in _once(roots) if is_conda(root) or os.path.isdir(os.path.join(root, "envs"))]


def _on_path(program: str) -> "str | None":
    # shutil.which would do, but for what its import takes: all compression modules.
    paths = [os.path.join(place, program) for place in os.environ.get("PATH", "").split(os.pathsep) if place]
    return next((path for path in paths if runnable(path)), None)


def _is_installation(prefix: str) -> bool:
    has_conda = os.path.isfile(os.path.join(prefix, "bin", "conda"))
    return has_conda or os.path.isdir(os.path.join(prefix, "condabin"))


def _configured_env_dirs(home: str, roots: "list[str]") -> "list[str]":
    """`envs_dirs` of the environment and the configuration files (a list in either of YAML's spellings)."""
    directories = []
    for variable in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH"):
        directories += os.environ.get(variable, "").split(os.pathsep)
    files = [os.environ.get("CONDARC", "")]
    for name in (".condarc", ".conda/.condarc", ".config/conda/.condarc", ".mambarc"):
        files.append(os.path.join(home, name))
    files += [os.path.join(root, ".condarc") for root in roots]
    for path in _once(files):
        match = _CONDARC_LIST.search(text_of(path).replace("\r\n", "\n"))
        if match:
            for item in re.split(r"[\n,]", match.group(1)):
                directories.append(item.split(" #")[0].strip().lstrip("-[ \t").strip(" \t]'\""))
    return [_expanded(directory, home) for directory in directories]


def _lines(path: str, home: str) -> "list[str]":
    return _once(_expanded(line.strip(), home) for line in text_of(path).splitlines()[:500])


def _expanded(path: str, home: str) -> str:
    for variable in ("~", "$HOME", "${HOME}"):
        if path == variable or path.startswith(variable + "/"):
            return home + path[len(variable) :]
    return path


def _once(paths: "Iterable[str]") -> "list[str]":
    """The absolute ones among the paths, each once, in their order."""
    absolute = [path.rstrip("/") for path in paths if path.startswith("/") and "\0" not in path]
    return [path for path in dict.fromkeys(absolute) if path]
