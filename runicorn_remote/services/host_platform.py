"""Which packages fit a host's Python: from what `onhost.interpreters` asks to the tags of wheels.

The tags are those of PEP 425, 600 (manylinux), 656 (musllinux); the values of markers those of PEP 508.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging import tags

from runicorn_remote.errors import RemoteCommandFailed

_WORD = re.compile(r"[A-Za-z0-9_.]{1,64}")
_SERIES = re.compile(r"3\.\d{1,2}")
_MARKERS = (
    "implementation_name",
    "implementation_version",
    "os_name",
    "platform_machine",
    "platform_python_implementation",
    "platform_release",
    "platform_system",
    "platform_version",
    "python_full_version",
    "python_version",
    "sys_platform",
)
# The oldest that wheels are built for: manylinux_2_5, and musl 1.1.
_OLDEST_GLIBC = 5
_OLDEST_MUSL, _NEWEST_MUSL = 1, 2
_LEGACY_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class HostPlatform:
    """What `pip download` has to be told of a host's Python. `markers`: as in `Marker.evaluate`."""

    python_version: str
    implementation: str
    abi: str
    platforms: tuple[str, ...]
    markers: Mapping[str, str]

    def pip_options(self) -> list[str]:
        options = ["--python-version", self.python_version, "--implementation", self.implementation]
        options += ["--abi", self.abi]
        for platform in self.platforms:
            options += ["--platform", platform]
        return options


def read_platform(target: object) -> HostPlatform:
    """Check the `target` of a host's answer. Raises `RemoteCommandFailed` (ANSWER_UNUSABLE)."""
    if not isinstance(target, dict) or not isinstance(target.get("markers"), dict):
        raise _unusable()
    markers = {name: _text(target["markers"], name) for name in _MARKERS}
    series = markers["python_version"]
    machine = _text(target, "machine")
    if not _SERIES.fullmatch(series) or not _WORD.fullmatch(machine):
        raise _unusable()
    if target.get("implementation") != "cpython":
        raise RemoteCommandFailed(
            "Packages can be brought for CPython only; this is another Python", code="WHEELS_UNAVAILABLE"
        )
    flags = "t" if target.get("abi_flags") == "t" else ""
    return HostPlatform(
        python_version=series,
        implementation="cp",
        abi=f"cp{series.replace('.', '')}{flags}",
        platforms=tuple(_platforms(target, markers["sys_platform"], machine)),
        markers=markers,
    )


def _platforms(target: Mapping[str, Any], system: str, machine: str) -> list[str]:
    if system == "darwin":
        version = re.match(r"(\d{1,3})\.(\d{1,3})", _text(target, "mac_version"))
        if not version:
            raise _unusable()
        return list(tags.mac_platforms((int(version[1]), int(version[2])), machine))
    if target.get("musl") is True:
        return [f"musllinux_1_{minor}_{machine}" for minor in range(_NEWEST_MUSL, _OLDEST_MUSL - 1, -1)]
    libc = re.match(r"glibc 2\.(\d{1,3})", str(target.get("libc")))
    found = []
    for minor in range(int(libc[1]) if libc else 0, _OLDEST_GLIBC - 1, -1):
        found.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY_NAMES:
            found.append(f"{_LEGACY_NAMES[minor]}_{machine}")
    return [*found, f"linux_{machine}"]


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not (isinstance(value, str) and len(value) <= 300 and value.isprintable()):
        raise _unusable()
    return value


def _unusable() -> RemoteCommandFailed:
    return RemoteCommandFailed("What the host says of its Python makes no sense", code="ANSWER_UNUSABLE")
