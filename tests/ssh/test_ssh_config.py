"""Aliases resolve exactly as `ssh -G` says, on a corpus of configurations; where ssh is missing, too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runicorn_remote.errors import SshConfigUnusable
from runicorn_remote.ssh.openssh import ask_openssh
from runicorn_remote.ssh.ssh_config import HostOptions, SshConfig

CORPUS = Path(__file__).parent / "configs"
SSH = shutil.which("ssh")
TIMEOUT = 10.0

needs_ssh = pytest.mark.skipif(SSH is None, reason="ssh is not installed (Debian: openssh-client)")


@dataclass(frozen=True)
class Question:
    file: str
    host: str
    user: str | None = None
    port: int | None = None
    reader_refuses: bool = False

    def __str__(self) -> str:
        return f"{self.file}:{self.host}:{self.user or ''}:{self.port or ''}"


def questions() -> list[Question]:
    found = []
    for path in sorted(CORPUS.glob("*.conf")):
        text = path.read_text()
        for host, rest in re.findall(r"^# ask: (\S+)(.*)$", text, re.MULTILINE):
            given = dict(word.split("=") for word in rest.split())
            port = int(given["port"]) if "port" in given else None
            refuses = "# reader: refuses" in text
            found.append(Question(path.name, host, given.get("user"), port, refuses))
    assert len(found) > 30
    return found


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files, with the paths in them as they are here."""
    monkeypatch.setenv("CORPUS_AGENT", "/run/agent.sock")
    monkeypatch.setenv("CORPUS_DIRECTORY", "/etc/corpus")
    directory = tmp_path / "configs"
    shutil.copytree(CORPUS, directory)
    for path in directory.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text().replace("@HERE@", str(directory)))
    return directory


def config(source: Path | str, *, commands: bool = True, program: str | None = SSH) -> SshConfig:
    return SshConfig(str(source), commands=commands, timeout=TIMEOUT, program=program)


def look_up(config: SshConfig, question: Question) -> HostOptions:
    return config.options(question.host, question.port, question.user)


@needs_ssh
@pytest.mark.parametrize("question", questions(), ids=str)
def test_as_ssh_says(corpus: Path, question: Question) -> None:
    """Word for word what `ssh -G` prints, but for tokens and `~`, which it leaves to the caller."""
    found = look_up(config(corpus / question.file), question)
    arguments = ["-F", str(corpus / question.file)]
    arguments += ["-l", question.user] if question.user else []
    arguments += ["-p", str(question.port)] if question.port else []
    answer = subprocess.run(
        [SSH or "", "-G", *arguments, question.host],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    said: dict[str, list[str]] = {}
    for line in answer.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        said.setdefault(keyword, []).append(value)

    assert found.hostname == said["hostname"][0]
    assert str(found.port) == said["port"][0]
    assert found.user == said["user"][0]
    assert found.identities_only == (said["identitiesonly"] == ["yes"])
    assert found.connect_timeout == (
        None if said["connecttimeout"] == ["none"] else float(said["connecttimeout"][0])
    )
    assert found.host_key_alias == said.get("hostkeyalias", [None])[0]
    assert found.proxy_jump == said.get("proxyjump", [None])[0]
    assert (found.proxy_command is None) == ("proxycommand" not in said)
    # A token may give two files one name; a word without any is there as it was written.
    plain = [value for value in said["identityfile"] if not re.search(r"[%~$]|^none$", value)]
    assert set(plain) <= set(found.identity_files or ())
    assert (found.identity_files is None) == ("~/.ssh/id_rsa" in said["identityfile"])


@needs_ssh
@pytest.mark.parametrize("question", questions(), ids=str)
def test_without_ssh_it_is_the_same_or_refused(corpus: Path, question: Question) -> None:
    reader = config(corpus / question.file, program=None)
    if question.reader_refuses:
        with pytest.raises(SshConfigUnusable, match="OpenSSH"):
            look_up(reader, question)
        return
    expected = look_up(config(corpus / question.file), question)
    found = look_up(reader, question)
    if found.proxy_jump is not None:  # ssh -G spells them its own way
        found = replace(found, proxy_jump=found.proxy_jump.removeprefix("ssh://"))
    # Without ssh the host stays as it was given.
    assert replace(found, hostname=found.hostname.lower()) == expected


@needs_ssh
def test_tokens_and_variables(corpus: Path, private_home: Path) -> None:
    identities = config(corpus / "identities.conf")
    gpu = identities.options("gpu", None, "bob")
    assert gpu.identity_files == (
        f"{private_home}/.ssh/keys/bob_gpu",
        f"{private_home}/keys/gpu.example.org-22",
        "/etc/keys/100%",
        f"{private_home}/.ssh/last",
    )
    assert gpu.certificate_files == (f"{private_home}/.ssh/gpu-cert.pub",)
    assert identities.options("agent", None, "bob").identity_agent == "/run/agents/bob.sock"
    assert identities.options("variable").identity_agent == "/run/agent.sock"
    assert "/etc/corpus/key" in (identities.options("variable").identity_files or ())
    assert identities.options("plain").identity_agent == "none"
    assert identities.options("none").identity_files == (f"{private_home}/.ssh/last",)
    command = config(corpus / "jumps.conf").options("tokens", 2000, "bob").proxy_command
    assert command == "ssh -W [deep.example.org]:2000 bob@bastion -o Comment=100%"


@pytest.mark.parametrize("program", [pytest.param(SSH, marks=needs_ssh), None])
def test_what_cannot_be_used(tmp_path: Path, program: str | None) -> None:
    file = tmp_path / "config"
    for text, said in [
        ("Host gpu\nIdentityFile ~/%Z", "unknown token %Z"),
        ("Host gpu\nIdentityFile ${NOWHERE_SET}/key", "NOWHERE_SET"),
        ("Host gpu\nPort many", "many"),
        ("Port 22\nInclude " + str(file), "16 deep|Too many"),
        ("Port 22\nProxyUseFdpass yes\nProxyCommand nc %h %p", "ProxyUseFdpass"),
    ]:
        file.write_text(text)
        with pytest.raises(SshConfigUnusable, match=said):
            config(file, program=program).options("gpu")


def test_a_file_that_is_set_and_missing(tmp_path: Path) -> None:
    with pytest.raises(SshConfigUnusable, match="does not exist"):
        config(tmp_path / "missing").options("gpu")


def test_files_without_a_word_that_matters_need_no_ssh(private_home: Path) -> None:
    ssh = private_home / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host *\n    SendEnv LANG\n    HashKnownHosts yes\n")
    found = config("auto", program="/nowhere/ssh").options("GPU", 2022, "bob")
    assert found == HostOptions("GPU", 2022, "bob")


def test_turned_off(private_home: Path) -> None:
    ssh = private_home / ".ssh"
    ssh.mkdir()
    (ssh / "config").write_text("Host gpu\n    HostName elsewhere\n")
    assert config("off").options("gpu", None, "bob").hostname == "gpu"
    assert config("auto").options("gpu", None, "bob").hostname == "elsewhere"


# --- commands


@pytest.mark.parametrize(
    "text",
    [
        'Match exec "touch {mark}"\n    Port 2000',
        'Match host x !exec="touch {mark}"\n    Port 2000',
        '"Match" "exec" "touch {mark}"\nPort 2000',
        "Port 2000\nInclude {here}/part*",
        "Port 2000\nHost nobody\nInclude '{here}/part one'",
        "Port 2000\nInclude {here}/%n",
        "Host *\nProxyCommand touch {mark}",
    ],
)
@pytest.mark.parametrize("program", [SSH, None])
def test_commands_that_are_turned_off_never_run(tmp_path: Path, text: str, program: str | None) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "part one").write_text(f'Match exec "touch {mark}"\n')
    file = tmp_path / "config"
    file.write_text(text.format(mark=mark, here=tmp_path))
    with pytest.raises(SshConfigUnusable) as raised:
        config(file, commands=False, program=program).options("gpu")
    assert raised.value.code == "SSH_CONFIG_COMMANDS_OFF"
    assert "ssh_config_commands" in (raised.value.hint or "")
    assert not mark.exists()


@needs_ssh
@pytest.mark.parametrize("user", ["$(touch mark)", "`touch${IFS}mark`", "a;b", "a|b", "'a'"])
def test_a_user_name_never_reaches_a_shell(tmp_path: Path, user: str) -> None:
    file = tmp_path / "config"
    file.write_text('Match exec "echo %r"\n    Port 2000\n')
    with pytest.raises(SshConfigUnusable, match="shell"):
        config(file).options("gpu", None, user)
    assert list(tmp_path.iterdir()) == [file]


@needs_ssh
def test_a_command_that_does_not_end(tmp_path: Path) -> None:
    """It is ended, with what it started, and nobody waits for its pipes."""
    pids = tmp_path / "pids"
    file = tmp_path / "config"
    file.write_text(f'Match exec "sleep 61 & echo $! > {pids}; wait"\n    Port 2000\n')
    with pytest.raises(SshConfigUnusable, match="longer than"):
        SshConfig(str(file), commands=True, timeout=0.5, program=SSH).options("gpu")
    pid = int(pids.read_text())
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@needs_ssh
def test_a_host_is_never_an_option(tmp_path: Path) -> None:
    """The grammar of hosts has none that starts with a minus; should it, ssh takes it as a host."""
    assert SSH is not None
    with pytest.raises(SshConfigUnusable):
        ask_openssh(SSH, ["-F", os.devnull], "-oProxyCommand=x", None, None, timeout=TIMEOUT)
