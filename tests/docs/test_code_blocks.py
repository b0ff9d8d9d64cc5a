"""The code in the pages runs as it stands, against a real server, a real sshd and real viewers.

The blocks of one page in one language are one script. Where things are, the scripts take from the
variables below, as the pages say. A block behind `<!-- not run: reason -->` is left out; the reasons
are listed here. Blocks in other languages (`console`, `text`, `json`, …) are there to be read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runicorn_remote.settings import Settings
from tests.client.conftest import fingerprint
from tests.docs import pages
from tests.docs.conftest import ENVIRONMENT, KEY, STORAGE
from tests.hosts.server import ServerProcess, clean_environment
from tests.hosts.sshd import SshServer

TIMEOUT = 110.0
LANGUAGES = ("python", "js", "sh")
READ_ONLY = {"", "console", "text", "json", "toml", "ini", "html"}
MODULE = pages.REPOSITORY / "runicorn_remote/static/runicorn-remote-client.js"

NOT_RUN = {
    "README.md": ["what the tests are started with", "runs until Ctrl-C"],
    "docs/clients.md": ["installs packages"],
    "docs/operations.md": ["installs packages"],
    "docs/web.md": ["installs packages, and runs until Ctrl-C", "on the GPU host", "runs until Ctrl-C"],
}

SCRIPTS = [
    pytest.param(page, language, id=f"{pages.name(page)}-{language}")
    for page in pages.PAGES
    for language in LANGUAGES
    if any(block.language == language and block.reason is None for block in pages.blocks(page))
]


@pytest.mark.sshd
@pytest.mark.viewer
@pytest.mark.parametrize(("page", "language"), SCRIPTS)
def test_the_code_runs(page: Path, language: str, host: SshServer, server: ServerProcess, home: Path) -> None:
    desk = home / "desk"
    desk.mkdir()
    command = COMMANDS[language](desk, script(page, language))
    answer = subprocess.run(
        command,
        cwd=desk,
        env=environment(host, server, home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    said = f"line numbers are those of {pages.name(page)}\n{answer.stdout}"
    assert answer.returncode == 0, said
    if language == "sh":
        assert '"detail"' not in answer.stdout, f"an error of the API; {said}"
    for expected in promises(page, language):
        assert expected in answer.stdout, f"{expected} was not printed; {said}"
    assert server.stop() == 0
    assert "Traceback" not in server.output()


def test_what_is_not_run_has_a_reason() -> None:
    found: dict[str, list[str]] = {}
    for page in pages.PAGES:
        reasons = [block.reason for block in pages.blocks(page) if block.reason is not None]
        if reasons:
            found[pages.name(page)] = reasons
    assert found == NOT_RUN


def test_every_language_is_known() -> None:
    """A block that says `bash` or `py` would not be run."""
    for page in pages.PAGES:
        for block in pages.blocks(page):
            assert block.language in {*LANGUAGES, *READ_ONLY}, f"{pages.name(page)}:{block.line}"


def test_settings_files_can_be_used(tmp_path: Path) -> None:
    examples = [
        block.code for page in pages.PAGES for block in pages.blocks(page) if block.language == "toml"
    ]
    assert examples
    for example in examples:
        file = tmp_path / "settings.toml"
        file.write_text(example)
        Settings.load(file, environ={})


# --- scripts


def script(page: Path, language: str) -> str:
    """The blocks at the lines they have in the page, so that an error names the place."""
    lines: list[str] = []
    for block in pages.blocks(page):
        if block.language == language and block.reason is None:
            lines += [""] * (block.line - 1 - len(lines))
            lines += block.code.splitlines()
    return "\n".join(lines) + "\n"


def promises(page: Path, language: str) -> list[str]:
    """The codes that comments behind what prints say it prints."""
    return re.findall(r"(?:print|log|echo)\b.*(?:#|//) ([A-Z]+_[A-Z_]+)\b", script(page, language))


def python(desk: Path, code: str) -> list[str]:
    file = desk / "page.py"
    file.write_text(code, "utf-8")
    return [sys.executable, "-W", "error", str(file)]


def node(desk: Path, code: str) -> list[str]:
    (desk / "package.json").write_text(json.dumps({"type": "module"}))
    shutil.copy(MODULE, desk)
    file = desk / "page.js"
    file.write_text(code, "utf-8")
    return [program("node", "nodejs"), str(file)]


def shell(desk: Path, code: str) -> list[str]:
    program("curl", "curl")
    file = desk / "page.sh"
    file.write_text(code, "utf-8")
    return [program("bash", "bash"), "-eu", str(file)]


COMMANDS: dict[str, Callable[[Path, str], list[str]]] = {"python": python, "js": node, "sh": shell}


def environment(host: SshServer, server: ServerProcess, home: Path) -> dict[str, str]:
    [host_key] = host.host_keys.values()
    account = {"host": host.host, "port": host.port, "username": host.username}
    return {
        **clean_environment(),
        "HOME": str(home),
        "PYTHONPATH": str(pages.REPOSITORY),
        "PATH": os.pathsep.join([str(command_line(home)), os.environ["PATH"]]),
        "RUNICORN_REMOTE": server.url,
        "RUNICORN_REMOTE_URL": server.url,
        "GPU": f"{host.username}@{host.host}:{host.port}",
        "GPU_JSON": json.dumps(account)[1:-1],
        "GPU_HOST": host.host,
        # By another name, and where nobody listens.
        "GPU_HOSTS": f"{host.host} localhost 127.0.0.2",
        "GPU_PORT": str(host.port),
        "GPU_USER": host.username,
        "GPU_KEY": KEY,
        "GPU_FINGERPRINT": fingerprint(host_key),
        "GPU_STORAGE": STORAGE,
        "GPU_ENV": ENVIRONMENT,
    }


def command_line(home: Path) -> Path:
    """A directory with the `runicorn-remote` of this checkout."""
    directory = home / "bin"
    directory.mkdir()
    command = directory / "runicorn-remote"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m runicorn_remote "$@"\n')
    command.chmod(0o700)
    return directory


def program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed (Debian: {package}): the code of the pages is not tested"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
