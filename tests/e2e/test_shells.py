"""Accounts whose login shell is not bash, or whose startup files are a nuisance."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.user import ENVIRONMENT, RemoteAccount, User, skip_or_fail
from tests.hosts import processes
from tests.hosts.server import fetch
from tests.hosts.sshd import SshServer

pytestmark = [pytest.mark.e2e, pytest.mark.sshd, pytest.mark.viewer]


@dataclass(frozen=True)
class LoginShell:
    """A shell, and what is in the startup file (a path in the home) that it reads before a command."""

    name: str
    startup_file: str = ""
    text: str = ""
    what: str = ""

    @property
    def forced_command(self) -> str:
        """Does what sshd does for an account with this login shell: SHELL -c COMMAND.

        A test cannot change the shell of the account it runs in. bash reads its startup file when it
        is the first shell of an SSH login; here it is the second.
        """
        return f'exec env -u SHLVL {shutil.which(self.name)} -c "$SSH_ORIGINAL_COMMAND"'


CHATTER = "echo 'Welcome to the cluster!'; echo 'Quota: 97 % used' >&2\n"
SHELLS = [
    LoginShell("dash"),
    LoginShell("csh", ".cshrc", CHATTER.replace(">&2", "")),
    LoginShell("tcsh", ".tcshrc", CHATTER.replace(">&2", "") + "alias python3 false\n"),
    LoginShell("fish", ".config/fish/config.fish", CHATTER),
    LoginShell("bash", ".bashrc", CHATTER + "printf 'no line end'\n", "chatty"),
    LoginShell(
        "bash", ".bashrc", CHATTER + "case $- in *i*) ;; *) return ;; esac\nexit 3\n", "returning early"
    ),
    LoginShell(
        "bash",
        ".bashrc",
        "read -r -t 5 answer; head -c 100000 /dev/zero | tr '\\0' x\n",
        "reading and flooding",
    ),
    LoginShell(
        "bash", ".bashrc", "set -eu; set -o noclobber -o noglob; IFS=,; umask 077; cd /\n", "with options set"
    ),
]


@pytest.fixture(params=SHELLS, ids=lambda shell: f"{shell.name} {shell.what}".strip())
def shell(request: pytest.FixtureRequest) -> LoginShell:
    shell: LoginShell = request.param
    if shutil.which(shell.name) is None:
        skip_or_fail(f"{shell.name} is not installed")
    return shell


@pytest.fixture
def sshd(tmp_path: Path, shell: LoginShell) -> Iterator[SshServer]:
    directory = tmp_path / "host"
    directory.mkdir()
    with SshServer(directory, options={"ForceCommand": shell.forced_command}) as server:
        if shell.startup_file:
            startup = server.home / shell.startup_file
            startup.parent.mkdir(parents=True, exist_ok=True)
            # That it was read can be seen afterwards.
            startup.write_text("touch ~/startup-file-was-read\n" + shell.text)
        yield server


def test_environments_are_found_and_a_viewer_runs(
    user: User, account: RemoteAccount, shell: LoginShell
) -> None:
    user.connect()
    environments = user.get("conda-envs", connection_id=user.connection_id)["envs"]
    assert {ENVIRONMENT, "system"} <= {environment["name"] for environment in environments}
    session = user.start_viewer()
    assert fetch(session["url"] + "/api/health").json()["status"] == "ok"
    assert fetch(session["url"] + "/").status_code == 200
    user.stop_viewer(session)
    assert not processes.is_alive(session["remotePid"])
    assert account.private_directories() == []
    assert (account.home / "startup-file-was-read").exists() == bool(shell.startup_file)
