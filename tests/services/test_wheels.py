"""What a host's Python needs beside what pip here thinks, from an index that is a directory."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runicorn_remote.errors import InstallCancelled, InstallFailed
from runicorn_remote.services.host_platform import HostPlatform
from runicorn_remote.services.wheels import Wheelhouse

MARKERS = {"python_version": "3.10", "sys_platform": "linux", "python_full_version": "3.10.1"}


def make_wheel(
    index: Path, name: str, *requires: str, tag: str = "py3-none-any", version: str = "1.0"
) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    with zipfile.ZipFile(index / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", wheel)
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All there is: pip's configuration names nothing else."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    make_wheel(index, "pip", version="99.0")
    return index


def house(tmp_path: Path, **more: object) -> Wheelhouse:
    directory = tmp_path / "wheels"
    directory.mkdir()
    options: dict[str, object] = {
        "tell": lambda line: None,
        "remaining": lambda: 60.0,
        "cancelled": threading.Event(),
        **more,
    }
    platform = HostPlatform("3.10", "cp", "cp310", ("manylinux_2_17_x86_64", "linux_x86_64"), MARKERS)
    return Wheelhouse(directory, platform, **options)  # type: ignore[arg-type]


def names(wheels: list[Path]) -> set[str]:
    return {wheel.name.partition("-")[0] for wheel in wheels}


def test_what_only_the_host_needs_comes_too(index: Path, tmp_path: Path) -> None:
    make_wheel(
        index,
        "runicorn",
        "web[standard]>=1",
        "older; python_version < '3.11'",
        "windows; sys_platform == 'win32'",
        "nobody; extra == 'dev'",
    )
    make_wheel(index, "web", "quick; extra == 'standard' and python_version < '3.11'", "slow; extra == 'x'")
    make_wheel(index, "older", "oldest; python_version < '3.11'")
    make_wheel(index, "quick", tag="cp310-cp310-manylinux_2_17_x86_64")
    make_wheel(index, "oldest")
    for unwanted in ("windows", "nobody", "slow"):
        make_wheel(index, unwanted)
    said: list[str] = []
    found = house(tmp_path, tell=said.append).fetch("runicorn==1.0")
    assert names(found) == {"pip", "runicorn", "web", "older", "oldest", "quick"}
    assert any("also needs" in line for line in said)


def test_what_is_not_there_is_told(index: Path, tmp_path: Path) -> None:
    make_wheel(index, "runicorn", "compiled")
    make_wheel(index, "compiled", tag="cp310-cp310-macosx_11_0_arm64")
    with pytest.raises(InstallFailed, match="compiled") as caught:
        house(tmp_path).fetch("runicorn==1.0")
    assert caught.value.code == "WHEELS_UNAVAILABLE"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"remaining": lambda: 0.0}, InstallFailed),
        ({"cancelled": threading.Event()}, InstallCancelled),
    ],
)
def test_it_ends_when_it_has_to(
    index: Path,
    tmp_path: Path,
    more: dict[str, Callable[[], float] | threading.Event],
    error: type[Exception],
) -> None:
    cancelled = more.get("cancelled")
    if isinstance(cancelled, threading.Event):
        cancelled.set()
    began = time.monotonic()
    with pytest.raises(error):
        house(tmp_path, **more).fetch("runicorn==1.0")
    assert time.monotonic() - began < 20
