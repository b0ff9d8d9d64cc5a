"""The search for environments, in homes as the tools leave them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.onhost import environments
from runicorn_remote.onhost.common import Failure
from tests.onhost.homes import (
    install_runicorn,
    make_build,
    make_conda,
    make_conda_root,
    make_dist_info,
    make_fake_python,
    make_python,
    make_venv,
)

OF_THE_TOOLS = re.compile(r"(CONDA|MAMBA|_CE_|PYENV|UV_|PIXI|POETRY|PYTHON|XDG_|WORKON|VIRTUAL_ENV)")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if OF_THE_TOOLS.match(name):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    make_fake_python(tmp_path / "usr" / "bin", "3.9.2")
    monkeypatch.setenv("PATH", str(tmp_path / "usr" / "bin"))
    return home


def find(home: Path, remote_root: Path | None = None) -> dict[str, dict[str, Any]]:
    """What is found in the test's directory, by name (this machine may have an /opt/conda)."""
    found = environments.find(str(home), remote_root and str(remote_root))
    assert len({environment["name"] for environment in found}) == len(found)
    return {item["name"]: item for item in found if item["prefix"].startswith(str(home.parent))}


def kinds(found: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {name: (item["type"], item["version"]) for name, item in found.items() if name != "system"}


class TestCondaFamily:
    def test_an_installation_is_base_and_its_environments_have_their_names(self, home: Path) -> None:
        make_conda_root(home / "miniconda3", "train", "eval")
        found = find(home)
        assert kinds(found) == {
            "base": ("conda", "Python 3.12.1"),
            "eval": ("conda", "Python 3.11.7"),
            "train": ("conda", "Python 3.11.7"),
        }
        assert found["train"]["python"] == f"{home}/miniconda3/envs/train/bin/python"
        assert found["train"]["prefix"] == f"{home}/miniconda3/envs/train"

    @pytest.mark.parametrize(
        "root",
        [
            "anaconda3",
            "anaconda",
            "miniconda",
            "miniforge3",
            "mambaforge",
            "micromamba",
            ".local/share/mamba",
        ],
    )
    def test_usual_roots(self, home: Path, root: str) -> None:
        make_conda(home / root / "envs" / "train")
        # Micromamba's root has no Python of its own, so there is no base.
        assert kinds(find(home)) == {"train": ("conda", "Python 3.11.7")}

    def test_root_elsewhere_known_from_an_environment_of_it(self, home: Path, tmp_path: Path) -> None:
        root = make_conda_root(tmp_path / "data" / "conda", "train", "eval")
        (home / ".conda").mkdir()
        (home / ".conda" / "environments.txt").write_text(f"{root}/envs/train\n/nowhere/at/all\n\nrelative\n")
        assert list(kinds(find(home))) == ["base", "eval", "train"]

    @pytest.mark.parametrize(
        ("file", "text"),
        [
            (".bashrc", """__conda_setup="$('<root>/bin/conda' 'shell.bash' 'hook' 2> /dev/null)"\n"""),
            (".zshrc", '    if [ -f "<root>/etc/profile.d/conda.sh" ]; then\n'),
            (".config/fish/config.fish", "    eval <root>/bin/conda shell.fish hook $argv | source\n"),
            (".tcshrc", "source <root>/etc/profile.d/conda.csh\n"),
            (".bashrc", "export MAMBA_ROOT_PREFIX='<root>';\n"),
            (".profile", "[ -z $PS1 ] && return\n. $HOME/../data/conda/etc/profile.d/conda.sh\n"),
        ],
    )
    def test_root_elsewhere_known_from_a_startup_file(
        self, home: Path, tmp_path: Path, file: str, text: str
    ) -> None:
        root = make_conda_root(tmp_path / "data" / "conda", "train")
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text("# before\n" + text.replace("<root>", str(root)) + "# after\n")
        assert list(kinds(find(home))) == ["base", "train"]

    def test_startup_file_of_slashes_costs_no_time(self, home: Path) -> None:
        (home / ".bashrc").write_text("/" * 100_000)
        assert kinds(find(home)) == {}

    @pytest.mark.parametrize("variable", ["CONDA_EXE", "MAMBA_EXE"])
    def test_root_from_the_environment(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        root = make_conda_root(tmp_path / "data" / "conda", "train")
        monkeypatch.setenv(variable, f"{root}/bin/conda")
        assert list(kinds(find(home))) == ["base", "train"]

    @pytest.mark.parametrize(
        "text",
        [
            "channels:\n  - conda-forge\nenvs_dirs:\n  - DIR\n  - /nowhere\nssl_verify: true\n",
            "envs_dirs: [/nowhere, 'DIR']\n",
            "envs_dirs:\r\n- DIR # mine\r\n",
            'envs_dirs:\n    - "~/../data/envs"\n',
        ],
    )
    def test_envs_dirs_of_condarc(self, home: Path, tmp_path: Path, text: str) -> None:
        make_conda(tmp_path / "data" / "envs" / "shared-train")
        (home / ".condarc").write_text(text.replace("DIR", f"{tmp_path}/data/envs"), newline="")
        assert list(kinds(find(home))) == ["shared-train"]

    def test_environment_by_prefix_outside_any_envs_directory(self, home: Path, tmp_path: Path) -> None:
        prefix = make_conda(tmp_path / "scratch" / "mine")
        (home / ".conda" / "envs").mkdir(parents=True)
        (home / ".conda" / "environments.txt").write_text(f"{prefix}\n")
        assert kinds(find(home)) == {"mine": ("conda", "Python 3.11.7")}

    def test_without_python_it_is_no_environment(self, home: Path) -> None:
        (home / "miniconda3" / "envs" / "r-base" / "conda-meta").mkdir(parents=True)
        (home / "miniconda3" / "envs" / ".conda_envs_dir_test").touch()
        assert kinds(find(home)) == {}

    def test_two_installations(self, home: Path) -> None:
        make_conda_root(home / "miniconda3", "train")
        make_conda_root(home / "miniforge3", "train")
        names = list(kinds(find(home)))
        assert names == ["base", "base (miniforge3)", "train", "train (miniforge3)"]
        assert list(kinds(find(home))) == names

    def test_one_installation_under_two_names_is_one(self, home: Path, tmp_path: Path) -> None:
        make_conda_root(tmp_path / "data" / "miniconda3", "train")
        (home / "miniconda3").symlink_to(tmp_path / "data" / "miniconda3")
        (home / "anaconda3").symlink_to(tmp_path / "data" / "miniconda3")
        assert list(kinds(find(home))) == ["base", "train"]


class TestVirtualEnvironments:
    def test_a_real_venv(self, home: Path, tmp_path: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(home / "venvs" / "real")], check=True
        )
        item = find(home)["real"]
        said = subprocess.run(
            [item["python"], "--version"], capture_output=True, text=True, check=True
        ).stdout
        assert (item["type"], item["version"]) == ("venv", said.strip())
        assert item["runicorn"] is None

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (["home = /usr/bin", "version = 3.11.7"], ("venv", "Python 3.11.7")),
            (
                ["home = /usr/bin", "virtualenv = 20.24", "version_info = 3.10.4.final.0"],
                ("virtualenv", "Python 3.10.4"),
            ),
            (["home = /x", "uv = 0.5.1", "version_info = 3.12.1"], ("uv", "Python 3.12.1")),
            (
                ["home=/x", "VERSION_INFO=3.13.0.candidate.2", "virtualenv=20"],
                ("virtualenv", "Python 3.13.0rc2"),
            ),
        ],
    )
    def test_pyvenv_cfg_tells_version_and_maker(
        self, home: Path, lines: list[str], expected: tuple[str, str]
    ) -> None:
        make_venv(home / ".virtualenvs" / "x", *lines)
        assert kinds(find(home)) == {"x": expected}

    def test_old_virtualenv_without_pyvenv_cfg(self, home: Path) -> None:
        prefix = home / ".virtualenvs" / "old"
        make_python(prefix)
        (prefix / "bin" / "activate_this.py").touch()
        (prefix / "lib" / "python3.6").mkdir(parents=True)
        assert kinds(find(home)) == {"old": ("virtualenv", "Python 3.6")}

    @pytest.mark.parametrize(
        "place",
        [".venv", "venv", "venvs/x", ".venvs/x", "envs/x", ".virtualenvs/x", ".local/share/virtualenvs/x"],
    )
    def test_usual_places(self, home: Path, place: str) -> None:
        make_venv(home / place)
        assert list(kinds(find(home))) == [place.split("/")[-1]]

    def test_workon_home(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_venv(tmp_path / "work" / "x")
        monkeypatch.setenv("WORKON_HOME", str(tmp_path / "work"))
        assert list(kinds(find(home))) == ["x"]

    def test_conda_environment_among_them(self, home: Path) -> None:
        make_conda(home / "envs" / "x")
        assert kinds(find(home)) == {"x": ("conda", "Python 3.11.7")}

    def test_poetry(self, home: Path) -> None:
        make_venv(
            home / ".cache/pypoetry/virtualenvs/proj-Ab1-py3.11",
            "virtualenv = 20",
            "version_info = 3.11.2.final.0",
        )
        assert kinds(find(home)) == {"proj-Ab1-py3.11": ("poetry", "Python 3.11.2")}

    def test_pyenv_with_its_virtualenvs_and_condas(self, home: Path) -> None:
        versions = home / ".pyenv" / "versions"
        make_build(versions / "3.11.7", "3.11.7")
        make_build(versions / "3.13-dev", "3.13.1+")
        make_venv(versions / "3.11.7" / "envs" / "proj")
        (versions / "proj").symlink_to(versions / "3.11.7" / "envs" / "proj")
        make_conda_root(versions / "miniconda3-latest", "train")
        assert kinds(find(home)) == {
            "3.11.7": ("pyenv", "Python 3.11.7"),
            "3.13-dev": ("pyenv", "Python 3.13.1+"),
            "miniconda3-latest": ("pyenv", "Python 3.12.1"),
            "proj": ("pyenv", "Python 3.11.7"),
            "train": ("conda", "Python 3.11.7"),
        }

    def test_uv(self, home: Path) -> None:
        make_build(home / ".local/share/uv/python/cpython-3.12.1-linux-x86_64-gnu", "3.12.1")
        make_venv(home / ".local/share/uv/tools/runicorn", "home = /x", "uv = 0.5.1", "version_info = 3.12.1")
        assert kinds(find(home)) == {
            "cpython-3.12.1-linux-x86_64-gnu": ("uv", "Python 3.12.1"),
            "runicorn": ("uv", "Python 3.12.1"),
        }

    def test_pixi(self, home: Path) -> None:
        make_conda(home / ".pixi" / "envs" / "tool", "3.12.4")
        assert kinds(find(home)) == {"tool": ("pixi", "Python 3.12.4")}


class TestProject:
    def test_environments_of_the_root_and_of_the_directory_above(self, home: Path) -> None:
        project = home / "project"
        make_venv(project / ".venv", "uv = 0.5.1", "version_info = 3.12.1")
        make_venv(project / "runs" / "venv")
        make_conda(project / ".pixi" / "envs" / "default")
        assert kinds(find(home, project / "runs")) == {
            ".venv (project)": ("uv", "Python 3.12.1"),
            "venv (runs)": ("venv", "Python 3.11.7"),
            "default (project)": ("pixi", "Python 3.11.7"),
        }
        assert kinds(find(home)) == {}

    def test_they_take_no_name_from_the_others(self, home: Path) -> None:
        make_venv(home / "venvs" / ".venv (project)")
        make_venv(home / "project" / ".venv")
        found = find(home, home / "project")
        assert found[".venv (project)"]["prefix"] == f"{home}/venvs/.venv (project)"
        assert len(kinds(found)) == 2

    @pytest.mark.parametrize(
        "root", ["~", "~/nowhere", "/", "/dev/null", "a/b", "~nobody-of-that-name/x", "x" * 5000]
    )
    def test_any_root_can_be_given(self, home: Path, root: str) -> None:
        assert environments.find(str(home), root)[0]["name"] == "system"

    @pytest.mark.parametrize("root", ["a\0b", "\ud800"])
    def test_unless_it_is_no_path(self, home: Path, root: str) -> None:
        with pytest.raises(Failure) as raised:
            environments.find(str(home), root)
        assert raised.value.answer["error"] == "INVALID_PATH"


class TestSystem:
    def test_first_of_the_path_is_asked_once(self, home: Path, tmp_path: Path) -> None:
        system = find(home)["system"]
        assert system == {
            "name": "system",
            "type": "system",
            "python": f"{tmp_path}/usr/bin/python3",
            "version": "Python 3.9.2",
            "prefix": f"{tmp_path}/usr",
            "runicorn": None,
        }
        assert (tmp_path / "usr/bin/python3.log").read_text() == "asked\n"

    @pytest.mark.parametrize("link", [False, True])
    def test_environments_on_the_path_are_passed_over(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
    ) -> None:
        root = make_conda_root(home / "miniconda3")
        first = root / "bin"
        python3 = first / "python3"
        python3.symlink_to("python")
        if link:
            first = home / "bin"
            first.mkdir()
            (first / "python3").symlink_to(python3)
        monkeypatch.setenv("PATH", f"{first}:{tmp_path}/usr/bin")
        assert find(home)["system"]["python"] == f"{tmp_path}/usr/bin/python3"

    def test_shims_are_passed_over(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_fake_python(home / ".pyenv" / "shims", "3.13.0")
        monkeypatch.setenv("PATH", f"{home}/.pyenv/shims:{tmp_path}/usr/bin")
        assert find(home)["system"]["version"] == "Python 3.9.2"

    def test_without_another_the_one_on_the_path_will_do(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = make_conda_root(home / "miniconda3")
        (root / "bin" / "python3").symlink_to("python")
        monkeypatch.setenv("PATH", f"{root}/bin")
        monkeypatch.setattr(environments, "_SYSTEM_PYTHONS", ())
        system = find(home)["system"]
        assert system["python"] == f"{root}/bin/python3"
        assert system["version"] == "Python " + sys.version.split()[0]

    @pytest.mark.parametrize("script", ["exit 1", "echo Python", "kill -9 $$", "sleep 60", "exec /nowhere"])
    def test_broken_one_is_passed_over(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
    ) -> None:
        broken = make_fake_python(tmp_path / "broken", "")
        broken.write_text(f"#!/bin/sh\n{script}\n")
        monkeypatch.setattr(environments, "_VERSION_TIMEOUT", 0.5)
        monkeypatch.setenv("PATH", f"relative::{tmp_path}/broken:{tmp_path}/usr/bin")
        assert find(home)["system"]["version"] == "Python 3.9.2"

    def test_environment_named_system_does_not_take_its_name(self, home: Path) -> None:
        make_conda_root(home / "miniconda3", "system")
        found = find(home)
        assert found["system"]["type"] == "system"
        assert found["system (miniconda3)"]["type"] == "conda"


class TestRunicorn:
    def test_in_each_kind(self, home: Path, tmp_path: Path) -> None:
        install_runicorn(make_conda_root(home / "miniconda3", "train") / "envs" / "train", "0.7.2")
        install_runicorn(make_venv(home / "venvs" / "x"), "0.6.0")
        install_runicorn(tmp_path / "usr", "0.5.4", "3.9")
        found = find(home)
        assert {name: item["runicorn"] for name, item in found.items()} == {
            "system": "0.5.4",
            "base": None,
            "train": "0.7.2",
            "x": "0.6.0",
        }

    def test_only_of_the_python_in_use(self, home: Path) -> None:
        install_runicorn(make_conda(home / "envs" / "x"), "0.6.0", "3.9")
        assert find(home)["x"]["runicorn"] is None

    def test_other_packages_are_not_it(self, home: Path) -> None:
        site = make_venv(home / ".venv") / "lib/python3.11/site-packages"
        for name in ("runicorn_remote", "runicorn-extras", "runicornx", "~unicorn"):
            make_dist_info(site, name, "1.0")
        (site / "runicorn-0.7.2.dist-info").mkdir()  # a left-over: nothing in it
        assert find(home)[".venv"]["runicorn"] is None

    def test_other_spellings_of_metadata(self, home: Path) -> None:
        site = make_venv(home / ".venv") / "lib/python3.11/site-packages"
        info = site / "Runicorn-0.6.0-py3.11.egg" / "EGG-INFO"
        info.mkdir(parents=True)
        (info / "PKG-INFO").write_text("Name: runicorn\nVersion: 0.6.0\n")
        assert find(home)[".venv"]["runicorn"] == "0.6.0"
        (site / "runicorn-0.10.0-py3.11.egg-info").write_bytes(b"\xff\xfe")
        assert find(home)[".venv"]["runicorn"] == "0.10.0"

    @pytest.mark.parametrize("file", ["runicorn.egg-link", "easy-install.pth"])
    def test_development_install(self, home: Path, tmp_path: Path, file: str) -> None:
        info = tmp_path / "src" / "runicorn.egg-info"
        info.mkdir(parents=True)
        (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: runicorn\nVersion: 0.7.3.dev0\n")
        site = make_venv(home / ".venv") / "lib/python3.11/site-packages"
        site.mkdir(parents=True)
        (site / file).write_text(f"import sys\n{tmp_path}/src\n.")
        assert find(home)[".venv"]["runicorn"] == "0.7.3.dev0"

    def test_user_site_counts_for_all_but_virtual_environments(self, home: Path) -> None:
        install_runicorn(home / ".local", "0.7.2")
        install_runicorn(home / ".local", "0.7.1", "3.9")
        make_conda(home / "envs" / "conda")
        make_venv(home / "venvs" / "shut")
        make_venv(
            home / "venvs" / "open",
            "include-system-site-packages = true",
            "version = 3.11.7",
            "home = /x/bin",
        )
        versions = {name: item["runicorn"] for name, item in find(home).items()}
        assert versions == {"system": "0.7.1", "conda": "0.7.2", "shut": None, "open": "0.7.2"}

    def test_venv_that_sees_its_base(self, home: Path) -> None:
        base = make_conda_root(home / "miniconda3", version="3.11.9")
        install_runicorn(base, "0.7.2")
        lines = [f"home = {base}/bin", "version = 3.11.9"]
        make_venv(home / "venvs" / "open", *lines, "include-system-site-packages = TRUE")
        make_venv(home / "venvs" / "shut", *lines, "include-system-site-packages = false")
        found = find(home)
        assert (found["open"]["runicorn"], found["shut"]["runicorn"]) == ("0.7.2", None)

    def test_a_real_installation(self, home: Path) -> None:
        """The environment of these tests: the files say what the interpreter says."""
        found = environments.find_one(sys.executable, str(home))
        asked = (
            "import importlib.metadata as m; print(*[d.version for d in m.distributions(name='runicorn')])"
        )
        said = subprocess.run(
            [sys.executable, "-c", asked], capture_output=True, text=True, check=True
        ).stdout
        assert found is not None
        assert (found["runicorn"] or "") == said.strip()
        assert found["version"] == "Python " + sys.version.split()[0]


class TestBroken:
    def test_what_cannot_run_is_left_out(self, home: Path) -> None:
        (make_venv(home / "venvs" / "dangling") / "bin" / "python").unlink()
        (home / "venvs/dangling/bin/python").symlink_to("/nowhere/python3")
        (make_venv(home / "venvs" / "not-executable") / "bin" / "python").unlink()
        (home / "venvs/not-executable/bin/python").write_text("")
        (make_venv(home / "venvs" / "directory") / "bin" / "python").unlink()
        (home / "venvs/directory/bin/python").mkdir()
        (make_venv(home / "venvs" / "loop") / "bin" / "python").unlink()
        (home / "venvs/loop/bin/python").symlink_to("python")
        make_venv(home / "venvs" / "fine")
        assert list(kinds(find(home))) == ["fine"]

    @pytest.mark.parametrize(
        "config", [b"", b"\xff\xfe\0\0", b"version = evil\n", b"version = 3.11.7; rm\n", b"=" * 100_000]
    )
    def test_pyvenv_cfg_of_nonsense(self, home: Path, config: bytes) -> None:
        make_venv(home / "venvs" / "fine")
        (make_venv(home / "venvs" / "bad") / "pyvenv.cfg").write_bytes(config)
        assert list(kinds(find(home))) == ["fine"]

    def test_pipes_where_files_should_be(self, home: Path) -> None:
        for name in (".bashrc", ".condarc"):
            os.mkfifo(home / name)
        bad = make_venv(home / "venvs" / "bad")
        (bad / "pyvenv.cfg").unlink()
        os.mkfifo(bad / "pyvenv.cfg")
        make_venv(home / "venvs" / "fine")
        assert list(kinds(find(home))) == ["fine"]

    def test_files_where_directories_should_be(self, home: Path) -> None:
        for name in (".conda", "miniconda3", ".virtualenvs", ".pyenv", ".local", ".cache", ".pixi", ".venv"):
            (home / name).touch()
        assert kinds(find(home)) == {}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_directories_that_may_not_be_read(self, home: Path) -> None:
        make_conda_root(home / "miniconda3", "train")
        (home / "miniconda3" / "envs").chmod(0)
        assert list(kinds(find(home))) == ["base"]

    def test_names_that_cannot_be_shown_are_left_out(self, home: Path) -> None:
        for name in (b"caf\xe9", b"a\nb", b"a\x1b[2Jb", "a\u202eb".encode()):
            make_venv(home / "venvs" / os.fsdecode(name))
        for name in ("模型", "two words", "-rf", "$(id)", "a'b\"c", "👩 gpu"):
            make_venv(home / "venvs" / name)
        assert set(kinds(find(home))) == {"模型", "two words", "-rf", "$(id)", "a'b\"c", "👩 gpu"}

    def test_no_more_than_two_hundred(self, home: Path) -> None:
        for number in range(220):
            make_venv(home / "venvs" / f"{number:03}")
        found = environments.find(str(home))
        assert len(found) == environments.MAX_ENVIRONMENTS
        assert found[0]["name"] == "system"


class TestFindOne:
    @pytest.fixture
    def train(self, home: Path) -> Path:
        return make_conda_root(home / "miniconda3", "train") / "envs" / "train"

    def test_by_name_prefix_or_interpreter(self, home: Path, train: Path) -> None:
        make_python(train, "python3.11")
        for name in (
            "train",
            f"{train}",
            f"{train}/",
            f"{train}/bin/python",
            f"{train}/bin/python3.11",
            "~/miniconda3/envs/train",
        ):
            found = environments.find_one(name, str(home))
            assert found is not None
            assert found["name"] == "train"

    @pytest.mark.parametrize(
        "name",
        ["", "trai", "Train", "nothing", "/", "/nowhere", "~", "../train", "--help", "train\n", "/usr"],
    )
    def test_unknown_is_none_and_never_another(self, home: Path, train: Path, name: str) -> None:
        assert environments.find_one(name, str(home)) is None

    def test_system_by_its_very_interpreter_only(self, home: Path, tmp_path: Path) -> None:
        make_fake_python(tmp_path / "usr" / "bin", "3.8.1", "python3.8")
        found = environments.find_one(f"{tmp_path}/usr/bin/python3", str(home))
        assert found is not None
        assert found["name"] == "system"
        assert environments.find_one(f"{tmp_path}/usr/bin/python3.8", str(home)) is None

    def test_one_that_lies_at_no_usual_place(self, home: Path, tmp_path: Path) -> None:
        prefix = make_venv(tmp_path / "elsewhere" / "x")
        for name in (str(prefix), f"{prefix}/bin/python"):
            found = environments.find_one(name, str(home))
            assert found is not None
            assert (found["name"], found["python"]) == (str(prefix), f"{prefix}/bin/python")

    def test_of_the_project(self, home: Path) -> None:
        make_venv(home / "project" / ".venv")
        assert environments.find_one(".venv (project)", str(home)) is None
        assert environments.find_one(".venv (project)", str(home), "~/project") is not None

    def test_none_is_the_first_that_has_runicorn(self, home: Path, train: Path, tmp_path: Path) -> None:
        def default() -> str:
            found = environments.find_one(None, str(home))
            assert found is not None
            return str(found["name"])

        assert default() == "system"
        install_runicorn(train, "0.7.2")
        assert default() == "train"
        install_runicorn(tmp_path / "usr", "0.7.2", "3.9")
        assert default() == "system"
