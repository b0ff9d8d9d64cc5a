"""What a Python is, asked of itself. Runs on the remote machine: Python >= 3.6, standard library."""

import contextlib
import json
import os
import re
import shutil
from typing import Any

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.private_files import to_path, to_text
from runicorn_remote.onhost.tools import ToolFailed, run_tool

# What runicorn 0.6 and newer need.
OLDEST_PYTHON = (3, 10)
# Packages with compiled parts are late for a new Python.
_NEWEST_TRIED_FIRST = (3, 13)
# pip can work for another Python since then.
_PIP_FOR_OTHERS = (22, 3)
_ASK_TIMEOUT = 20.0
# Run with -I: neither the environment nor the working directory decides what is imported.
_ASK = """
import json, os, platform, sys, sysconfig
try:
    import pip
    pip_version = pip.__version__
except Exception:
    pip_version = None
try:
    from importlib.metadata import version
    runicorn = version("runicorn")
except Exception:
    runicorn = None
implementation = sys.implementation
free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
full = platform.python_version()
found = "{0.major}.{0.minor}.{0.micro}".format(implementation.version)
if implementation.version.releaselevel != "final":
    found += implementation.version.releaselevel[0] + str(implementation.version.serial)
in_venv = sys.prefix != sys.base_prefix
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, OSError, ValueError):
    libc = None
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "prefix": sys.prefix,
    "base": getattr(sys, "_base_executable", None) or sys.executable,
    "pip": pip_version,
    "runicorn": runicorn,
    "site": sysconfig.get_path("purelib"),
    "managed": not in_venv and os.path.isfile(
        os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")),
    "target": {
        "implementation": implementation.name,
        "abi_flags": free_threaded,
        "machine": platform.machine(),
        "libc": libc,
        "musl": "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""),
        "mac_version": platform.mac_ver()[0],
        "markers": {
            "implementation_name": implementation.name,
            "implementation_version": found,
            "os_name": os.name,
            "platform_machine": platform.machine(),
            "platform_release": platform.release(),
            "platform_system": platform.system(),
            "platform_version": platform.version(),
            "python_full_version": full,
            "platform_python_implementation": platform.python_implementation(),
            "python_version": ".".join(platform.python_version_tuple()[:2]),
            "sys_platform": sys.platform,
        },
    },
}))
"""


def ask_interpreter(python: str) -> "dict[str, Any]":
    """What `_ASK` prints. Raises Failure INSTALL_FAILED if this is no Python 3 that runs."""
    try:
        status, said, errors = run_tool([python, "-I", "-c", _ASK], _ASK_TIMEOUT)
        answer = json.loads(said) if status == 0 else None
    except ToolFailed as failed:
        raise Failure("INSTALL_FAILED", str(failed)) from None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failure("INSTALL_FAILED", f"{to_text(python)} does not run: {errors.strip()[-200:]}")
    return answer


def find_uv(home: str) -> "str | None":
    """`uv`, also where a login without a terminal does not look for it."""
    places = [os.path.join(home, name) for name in (".local/bin", ".cargo/bin", "bin")]
    return shutil.which("uv") or shutil.which("uv", path=os.pathsep.join([*places, "/opt/homebrew/bin"]))


def base_python(environments: "list[dict[str, Any]]") -> "tuple[str, tuple[int, int]]":
    """The interpreter to make the private environment of: the system's, else another that is new enough."""
    candidates = []
    for environment in environments:
        numbers = re.match(r"Python (\d+)\.(\d+)", environment["version"])
        if numbers:
            series = (int(numbers.group(1)), int(numbers.group(2)))
            candidates.append((environment["type"] == "system", to_path(environment["python"]), series))
    for minor in range(_NEWEST_TRIED_FIRST[1], OLDEST_PYTHON[1] - 1, -1):
        path = shutil.which("python3." + str(minor))
        if path:
            candidates.append((False, path, (3, minor)))
    usable = [item for item in candidates if item[2] >= OLDEST_PYTHON]
    for _, path, series in sorted(usable, key=_preference):
        with contextlib.suppress(Failure):
            if tuple(ask_interpreter(path)["version"]) == series:
                return path, series
    newest = max((item[2] for item in candidates), default=None)
    raise Failure(
        "PYTHON_TOO_OLD",
        "Runicorn needs Python 3.10 or newer; the newest one found on the host is "
        + (".".join(map(str, newest)) if newest else "older than that"),
    )


def _preference(candidate: "tuple[bool, str, tuple[int, int]]") -> "tuple[Any, ...]":
    is_system, path, series = candidate
    return (series > _NEWEST_TRIED_FIRST, not is_system, -series[1], path)


def pip_of(python: str, about: "dict[str, Any]") -> "list[str] | None":
    """The environment's own pip, else that of the Python it was made of, working for it."""
    if about["pip"]:
        return [python, "-I", "-m", "pip"]
    base = to_path(about["base"])
    with contextlib.suppress(Failure):
        numbers = re.match(r"(\d+)\.(\d+)", ask_interpreter(base)["pip"] or "")
        if numbers and (int(numbers.group(1)), int(numbers.group(2))) >= _PIP_FOR_OTHERS:
            return [base, "-I", "-m", "pip", "--python", python]
    return None
