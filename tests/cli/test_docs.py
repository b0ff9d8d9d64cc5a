"""docs/cli.md tells the truth: its examples run, its tables are those of the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runicorn_remote.cli import command_line
from runicorn_remote.cli.failures import EXIT_STATUSES
from runicorn_remote.client import RunicornRemoteClient
from tests.client.conftest import fingerprint
from tests.hosts.server import REPOSITORY, ServerProcess, clean_environment
from tests.hosts.sshd import SshServer

PAGE = (REPOSITORY / "docs/cli.md").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples use curl")
def test_the_examples_run(
    server: ServerProcess, host: SshServer, target: str, client: RunicornRemoteClient, tmp_path: Path
) -> None:
    (path := tmp_path / "bin").mkdir()
    command = path / "runicorn-remote"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m runicorn_remote "$@"\n')
    command.chmod(0o700)
    examples = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.S | re.M))
    environment = {
        **clean_environment(),
        "PATH": os.pathsep.join([str(path), os.environ["PATH"]]),
        "RUNICORN_REMOTE_URL": server.url,
        "GPU": target,
        "GPU_KEY": str(host.client_key),
        "GPU_FINGERPRINT": fingerprint(host.host_keys["ssh-ed25519"]),
        "GPU_STORAGE": "~/storage",
        "GPU_ENV": "serves",
    }
    answer = subprocess.run(
        ["sh", "-eux", "-c", examples],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert '"status": "ok"' in answer.stdout
    assert answer.stdout.count("\nStopped ") == 2
    assert "log in first" in answer.stdout
    assert client.list_viewer_sessions() == []
    assert client.list_sessions() == []


def test_the_exit_statuses() -> None:
    told = re.findall(r"^\| (\d+) \| (.*?),? ?(?:…)? \|$", PAGE, re.M)
    assert [f"{status:<4} {meaning}" for status, meaning in told] == [
        line.strip().removesuffix(", ...") for line in EXIT_STATUSES.splitlines()[1:]
    ]


def test_every_verb_is_there() -> None:
    for name in command_line.commands:
        assert re.search(rf"^\|.*`{name}\b", PAGE, re.M), name
