"""The question `install`, where it ends before a tool runs; tests/e2e has the rest."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost.private_places import PRIVATE_NAME
from tests.fakes import LocalHost
from tests.onhost.homes import make_fake_python

OURS = ".local/share/runicorn-remote"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def ask(home: Path, path: str = "/usr/bin:/bin", **arguments: Any) -> dict[str, Any]:
    """Without an index: what is asked for by a tool fails at once."""
    host = LocalHost(home, path=path, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull, UV_OFFLINE="1")
    asked = {"environment": None, "version": "0.7.2", "wheels": None, "timeout": 60, **arguments}
    program = onhost.build("install", asked)
    result = host.run_script(program.script, timeout=90)
    return program.answer(result.stdout, result.stderr, result.exit_status)


def refusal(home: Path, **arguments: Any) -> str:
    with pytest.raises(RemoteCommandFailed) as caught:
        ask(home, **arguments)
    return caught.value.code


def test_without_an_index_packages_are_wanted(home: Path) -> None:
    answer = ask(home)
    assert answer["event"] == "wheels_wanted"
    directory = Path(answer["directory"])
    assert directory.parent == home / OURS
    assert directory.stat().st_mode & 0o777 == 0o700
    assert answer["target"]["markers"]["sys_platform"] == sys.platform
    assert list((home / OURS / "venvs").iterdir()) == []
    # An installation from there ends with it.
    assert refusal(home, wheels=str(directory)) == "INSTALL_FAILED"
    assert not directory.exists()


def test_one_at_a_time(home: Path) -> None:
    name = hashlib.sha256(PRIVATE_NAME.encode()).hexdigest()[:16]
    lock = home / OURS / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert refusal(home) == "INSTALL_IN_PROGRESS"


def test_only_directories_of_ours(home: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "wheels-x", home / OURS / "wheels-x", home / OURS / "venvs"):
        path.mkdir(parents=True)
    elsewhere = home / OURS / "wheels-link"
    elsewhere.symlink_to(tmp_path / "wheels-x")
    for path in (tmp_path / "wheels-x", home / OURS / "venvs", elsewhere):
        assert refusal(home, wheels=str(path)) == "INVALID_VALUE"
        assert path.exists()


def test_a_directory_that_somebody_put_there(home: Path, tmp_path: Path) -> None:
    (home / ".local/share").mkdir(parents=True)
    (home / OURS).symlink_to(tmp_path)
    assert refusal(home) == "PRIVATE_DIRECTORY_UNSAFE"


def test_a_python_that_is_too_old(home: Path, tmp_path: Path) -> None:
    """The host's own; nothing newer is in sight."""
    bin_directory = tmp_path / "bin"
    python = make_fake_python(bin_directory, "3.9.2")
    script = python.read_text()
    python.write_text(
        script.replace("#!/bin/sh\n", '#!/bin/sh\n[ "$1" = -I ] && exec /usr/bin/python3 "$@"\n')
    )
    (bin_directory / "sh").symlink_to("/bin/sh")
    if any(Path("/opt").glob("*conda*")) or any(Path("/opt").glob("*forge*")):
        pytest.skip("this machine has other Pythons in /opt")
    assert refusal(home, path=str(bin_directory)) == "PYTHON_TOO_OLD"


@pytest.fixture
def small_home(home: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root makes file systems")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, timeout=10).returncode:
        pytest.skip("no file system can be mounted here")
    yield home
    subprocess.run(["umount", "-l", str(home)], check=True, timeout=10)


def test_a_disk_that_is_full(small_home: Path) -> None:
    with (small_home / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    assert refusal(small_home) == "DISK_FULL"


def test_a_disk_that_is_read_only(small_home: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_home)], check=True, timeout=10)
    assert refusal(small_home) == "ENVIRONMENT_READ_ONLY"
