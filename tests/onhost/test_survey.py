"""The question `survey`, sent the way the SSH side sends it, to the shells and Pythons of this machine."""

from __future__ import annotations

import ast
import json
import os
import pwd
import shutil
import socket
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from tests.fakes import LocalHost
from tests.onhost.homes import INTERPRETER, install_runicorn, make_conda_root, make_venv

SHELLS = [("bash",), ("dash",), ("busybox", "sh"), ("zsh",), ("ksh",), ("tcsh",), ("fish",)]
POSIX_SHELLS = SHELLS[:5]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    install_runicorn(make_conda_root(home / "miniconda3", "train") / "envs" / "train", "0.7.2")
    return home


def ask(
    host: LocalHost, environment: str | None = None, remote_root: str | None = None, **more: Any
) -> dict[str, Any]:
    program = onhost.build("survey", {"remote_root": remote_root, "environment": environment, **more})
    result = host.run_script(program.script, timeout=30)
    return program.answer(result.stdout, result.stderr, result.exit_status)


def installed(shell: tuple[str, ...]) -> tuple[str, ...]:
    found = shutil.which(shell[0])
    if not found:
        pytest.skip(f"{shell[0]} is not installed")
    return (found, *shell[1:])


def names(answer: dict[str, Any]) -> list[str]:
    """Without what this machine itself has in /opt."""
    home = answer["home"]
    return [item["name"] for item in answer["environments"] if item["prefix"].startswith(home)]


def test_everything_in_one_answer(home: Path) -> None:
    answer = ask(LocalHost(home))
    assert answer["home"] == str(home)
    assert answer["hostname"] == socket.gethostname()
    assert answer["platform"] == sys.platform
    assert names(answer) == ["base", "train"]
    assert answer["environment"] is None
    assert answer["runicorn_dir"] is None
    assert answer["configured_root"] is None
    assert answer["storage_root"] == f"{home}/runicorn_data"
    assert answer["storage_root_exists"] is False


class TestStorageRoot:
    def test_default_that_exists(self, home: Path) -> None:
        (home / "runicorn_data").mkdir()
        assert ask(LocalHost(home))["storage_root_exists"] is True

    def test_configured_by_runicorn(self, home: Path) -> None:
        self.configure(home / ".config", {"user_root_dir": "~/runs", "other": 1})
        answer = ask(LocalHost(home))
        assert answer["configured_root"] == answer["storage_root"] == f"{home}/runs"

    def test_configured_in_xdg_config_home(self, home: Path, tmp_path: Path) -> None:
        self.configure(home / ".config", {"user_root_dir": "/wrong"})
        self.configure(tmp_path / "xdg", {"user_root_dir": str(tmp_path)})
        answer = ask(LocalHost(home, XDG_CONFIG_HOME=str(tmp_path / "xdg")))
        assert (answer["storage_root"], answer["storage_root_exists"]) == (str(tmp_path), True)

    @pytest.mark.parametrize("value", ["/data/runs", "~/../home/x/../runs", "relative/runs"])
    def test_runicorn_dir_comes_first_and_is_made_absolute(self, home: Path, value: str) -> None:
        self.configure(home / ".config", {"user_root_dir": "/configured"})
        answer = ask(LocalHost(home, RUNICORN_DIR=value))
        expected = os.path.normpath(home / value.replace("~", str(home)))
        assert answer["runicorn_dir"] == answer["storage_root"] == expected
        assert answer["configured_root"] == "/configured"

    @pytest.mark.parametrize("value", ["", "a\nb", "\x1b[2J", "x" * 4096, os.fsdecode(b"\xff")])
    def test_odd_runicorn_dir(self, home: Path, value: str) -> None:
        answer = ask(LocalHost(home, RUNICORN_DIR=value))
        assert answer["storage_root"].startswith(f"{home}/")
        assert answer["storage_root"].isprintable()

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "null", '{"user_root_dir": 7}', '{"user_root_dir": ""}', "[" * 100_000, "\0"]
    )
    def test_broken_configuration_is_none(self, home: Path, text: str) -> None:
        directory = home / ".config" / "runicorn"
        directory.mkdir(parents=True)
        (directory / "config.json").write_text(text)
        answer = ask(LocalHost(home))
        assert (answer["configured_root"], answer["storage_root"]) == (None, f"{home}/runicorn_data")

    @staticmethod
    def configure(config_home: Path, config: dict[str, Any]) -> None:
        (config_home / "runicorn").mkdir(parents=True)
        (config_home / "runicorn" / "config.json").write_text(json.dumps(config))


def test_ports_are_different_and_free(home: Path) -> None:
    answer = ask(LocalHost(home))
    assert answer["free_port"] == answer["free_ports"][0]
    assert len(set(answer["free_ports"])) == len(answer["free_ports"]) > 5
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", answer["free_port"]))


class TestEnvironmentAskedFor:
    @pytest.mark.parametrize(
        "name", ["train", "{home}/miniconda3/envs/train", "~/miniconda3/envs/train/bin/python"]
    )
    def test_known(self, home: Path, name: str) -> None:
        answer = ask(LocalHost(home), name.format(home=home))
        assert answer["environment"]["name"] == "train"
        assert answer["environment"]["runicorn"] == "0.7.2"

    def test_of_a_project(self, home: Path) -> None:
        make_venv(home / "project" / ".venv")
        answer = ask(LocalHost(home), ".venv (project)", "~/project/runs")
        assert answer["environment"]["python"] == f"{home}/project/.venv/bin/python"

    @pytest.mark.parametrize(
        "name",
        [
            "nothing",
            "$(touch HIT)",
            "`touch HIT`",
            "'; touch HIT; '",
            "a\nb",
            "\\",
            "__PROGRAM__",
            "-c",
            "é" * 1000,
        ],
    )
    def test_unknown_is_none_and_nothing_runs(self, home: Path, name: str) -> None:
        assert ask(LocalHost(home), name)["environment"] is None
        assert not list(home.glob("HIT*"))


class TestShells:
    """Whatever the login shell and whatever `sh` is, and whatever startup files print."""

    @pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
    def test_login_shells(self, home: Path, shell: tuple[str, ...]) -> None:
        assert names(ask(LocalHost(home, login_shell=installed(shell)))) == ["base", "train"]

    @pytest.mark.parametrize("shell", POSIX_SHELLS, ids=" ".join)
    def test_what_sh_can_be(self, home: Path, tmp_path: Path, shell: tuple[str, ...]) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "sh").symlink_to(installed(shell)[0])
        host = LocalHost(home, path=f"{tmp_path}/bin:/usr/bin:/bin")
        assert names(ask(host)) == ["base", "train"]

    @pytest.mark.parametrize(
        ("shell", "file", "environ"),
        [
            ("bash", ".bashrc", {"BASH_ENV": "{home}/.bashrc"}),
            ("zsh", ".zshenv", {}),
            ("tcsh", ".tcshrc", {}),
            ("fish", ".config/fish/config.fish", {}),
        ],
    )
    def test_chatty_startup_files(self, home: Path, shell: str, file: str, environ: dict[str, str]) -> None:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(
            "echo '@@0123456789abcdef {\"home\": \"/evil\"}'\necho Welcome\nprintf 'no end'\n"
        )
        more = {name: value.format(home=home) for name, value in environ.items()}
        answer = ask(LocalHost(home, login_shell=installed((shell,)), **more))
        assert answer["home"] == str(home)

    def test_startup_file_that_returns_early_or_reads_our_input(self, home: Path) -> None:
        (home / ".bashrc").write_text(
            "read line; echo got $line; case $- in *i*) ;; *) return;; esac; exit 3\n"
        )
        host = LocalHost(home, login_shell=installed(("bash",)), BASH_ENV=f"{home}/.bashrc")
        assert names(ask(host)) == ["base", "train"]

    def test_startup_file_that_exits_is_told_apart(self, home: Path) -> None:
        (home / ".bashrc").write_text("echo quota exceeded; exit 3\n")
        host = LocalHost(home, login_shell=installed(("bash",)), BASH_ENV=f"{home}/.bashrc")
        with pytest.raises(RemoteCommandFailed, match=r"exit status 3.*quota exceeded"):
            ask(host)


class TestPythons:
    @pytest.mark.parametrize("version", ["3.6", "3.7", "3.8", "3.9", "3.12", "3.13"])
    @pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
    def test_old_and_new(self, home: Path, tmp_path: Path, version: str, locale: str) -> None:
        make_venv(home / "venvs" / "模型")
        make_venv(home / "项目" / ".venv")
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python3").symlink_to(find_python(version))
        host = LocalHost(home, path=f"{tmp_path}/bin:/usr/bin:/bin", LC_ALL=locale)
        answer = ask(host, "模型", "~/项目/存储")
        assert names(answer) == ["base", "train", "模型", ".venv (项目)"]
        assert answer["environment"]["python"] == f"{home}/venvs/模型/bin/python"

    def test_none_on_the_path_but_one_in_a_conda(self, home: Path, tmp_path: Path) -> None:
        (home / "miniconda3" / "bin" / "python3").symlink_to("python")
        make_bin(tmp_path / "bin", "sh")
        host = LocalHost(home, path=f"{tmp_path}/bin", login_shell=("/bin/sh",))
        assert names(ask(host)) == ["base", "train"]


def find_python(version: str) -> str:
    versions = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".pyenv" / "versions"
    for directory in sorted(versions.glob(f"{version}.*")):
        return str(directory / "bin" / "python3")
    found = shutil.which(f"python{version}")
    if not found:
        pytest.skip(f"Python {version} is not installed")
    return found


def make_bin(directory: Path, *programs: str) -> None:
    directory.mkdir()
    for program in programs:
        (directory / program).symlink_to(shutil.which(program) or INTERPRETER)


QUESTIONS = ["survey", "storage_candidates"]


@pytest.mark.parametrize("question", QUESTIONS)
class TestSources:
    """What is sent is one program made of several modules, for an old Python."""

    def test_python_3_6_can_read_it(self, question: str) -> None:
        for name, tree in trees(question).items():
            assert tree.body, name

    def test_no_two_modules_define_the_same_name(self, question: str) -> None:
        seen: dict[str, str] = {}
        for module, tree in trees(question).items():
            for name in defined(tree):
                assert name not in seen, f"{name} is in {module} and in {seen[name]}"
                seen[name] = module

    def test_nothing_newer_than_python_3_6_is_called(self, question: str) -> None:
        newer = {
            "removeprefix",
            "removesuffix",
            "capture_output",
            "missing_ok",
            "text",
            "is_relative_to",
            "cache",
        }
        for tree in trees(question).values():
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute):
                    assert node.attr not in newer
                elif isinstance(node, ast.keyword):
                    assert node.arg not in newer

    def test_it_fits_into_one_argument(self, question: str) -> None:
        # Linux refuses a single argument of 128 KiB.
        assert len(onhost.build(question, {}).command) < 30_000, "nor do other servers take larger packets"


def trees(question: str) -> dict[str, ast.Module]:
    """The modules a question is made of, parsed with the grammar of Python 3.6."""
    found: dict[str, ast.Module] = {}

    def collect(module: str) -> None:
        source = resources.files(onhost).joinpath(f"{module}.py").read_text("ascii")
        found[module] = ast.parse(source, feature_version=(3, 6))
        for node in found[module].body:
            imported = (getattr(node, "module", None) or "").rpartition("runicorn_remote.onhost.")[2]
            if isinstance(node, ast.ImportFrom) and "onhost" in (node.module or "") and imported not in found:
                collect(imported)

    collect(question)
    return found


def defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
    return names
