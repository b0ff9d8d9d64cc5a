"""From what a host says of its Python to the tags of the wheels that fit."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from packaging import tags

from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost.interpreters import ask_interpreter
from runicorn_remote.services.host_platform import read_platform


@pytest.fixture
def target() -> dict[str, Any]:
    """That of this very interpreter."""
    found: dict[str, Any] = ask_interpreter(sys.executable)["target"]
    return found


def test_what_this_machine_says_of_itself(target: dict[str, Any]) -> None:
    platform = read_platform(target)
    best = next(tags.sys_tags())
    assert platform.abi == best.abi
    assert f"{platform.implementation}{platform.python_version.replace('.', '')}" == best.interpreter
    # What pip itself would take here, nothing more and nothing less.
    assert set(platform.platforms) == set(tags.platform_tags())
    assert platform.pip_options()[:6] == [
        "--python-version",
        platform.python_version,
        "--implementation",
        "cp",
        "--abi",
        platform.abi,
    ]


def test_others(target: dict[str, Any]) -> None:
    old = read_platform({**target, "libc": "glibc 2.17", "machine": "aarch64"})
    assert old.platforms[:2] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64")
    assert "manylinux_2_18_aarch64" not in old.platforms
    musl = read_platform({**target, "libc": None, "musl": True})
    assert musl.platforms == (f"musllinux_1_2_{target['machine']}", f"musllinux_1_1_{target['machine']}")
    mac = {**target, "mac_version": "14.5", "machine": "arm64"}
    mac["markers"] = {**target["markers"], "sys_platform": "darwin"}
    assert read_platform(mac).platforms[0] == "macosx_14_0_arm64"
    free_threaded = {**target, "abi_flags": "t"}
    free_threaded["markers"] = {**target["markers"], "python_version": "3.13"}
    assert read_platform(free_threaded).abi == "cp313t"


@pytest.mark.parametrize(
    "lie",
    [
        {"machine": "x86_64 --index-url http://evil.example"},
        {"machine": 7},
        {"markers": {}},
        {"markers": None},
        {"implementation": "pypy"},
    ],
)
def test_a_host_has_no_say_in_pips_options(target: dict[str, Any], lie: dict[str, Any]) -> None:
    with pytest.raises(RemoteCommandFailed):
        read_platform({**target, **lie})
    with pytest.raises(RemoteCommandFailed):
        read_platform({**target, "markers": {**target["markers"], "python_version": "3.11 -r x"}})
    with pytest.raises(RemoteCommandFailed):
        read_platform(None)
