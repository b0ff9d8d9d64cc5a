"""What clients are told about a host's environments: from real scripts, and from hosts that lie."""

from __future__ import annotations

import base64
import gc
import json
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.clock import Clock
from runicorn_remote.errors import (
    EnvironmentNotFound,
    InvalidValue,
    NotADirectory,
    RemoteCommandFailed,
    RemotePathNotFound,
)
from runicorn_remote.services.environments import SURVEY_TTL, Environments
from runicorn_remote.ssh.host import ScriptResult
from tests.fakes import LocalHost
from tests.onhost.homes import install_runicorn, make_conda_root, make_fake_python, make_venv


class SetClock(Clock):
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def environments(clock: SetClock) -> Environments:
    return Environments(30.0, clock)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """`train` and the system have runicorn, `base` and `bare` have not."""
    home = tmp_path / "home"
    root = make_conda_root(home / "miniconda3", "bare", "train")
    install_runicorn(root / "envs" / "train", "0.7.2")
    return home


@pytest.fixture
def host(home: Path, tmp_path: Path) -> LocalHost:
    return LocalHost(home, path=f"{make_system(tmp_path)}:/usr/bin:/bin")


def make_system(tmp_path: Path) -> Path:
    """A `system` Python of a known version and no runicorn. It cannot run the scripts: see `LocalHost`."""
    bin_directory = tmp_path / "usr" / "bin"
    make_fake_python(bin_directory, "3.9.2")
    # Told to run something, it hands over to the next.
    script = (bin_directory / "python3").read_text()
    (bin_directory / "python3").write_text(
        script.replace("#!/bin/sh\n", '#!/bin/sh\n[ "$1" = -I ] && exec /usr/bin/python3 "$@"\n')
    )
    return bin_directory


def of_the_test(environments: Any, tmp_path: Path) -> list[str]:
    """Names, without those this machine has in /opt."""
    return [item.name for item in environments if item.path.startswith(str(tmp_path))]


class TestList:
    def test_those_with_runicorn_first_and_the_first_is_the_default(
        self, environments: Environments, host: LocalHost, tmp_path: Path
    ) -> None:
        found = environments.list(host)
        assert of_the_test(found, tmp_path) == ["train", "system", "base", "bare"]
        assert [item.is_default for item in found] == [True] + [False] * (len(found) - 1)
        train = found[0]
        assert (train.type, train.python_version, train.runicorn_version) == (
            "conda",
            "Python 3.11.7",
            "0.7.2",
        )
        assert train.path == f"{tmp_path}/home/miniconda3/envs/train/bin/python"

    def test_the_system_is_first_among_equals(
        self, environments: Environments, host: LocalHost, tmp_path: Path
    ) -> None:
        install_runicorn(tmp_path / "usr", "0.6.0", "3.9")
        assert of_the_test(environments.list(host), tmp_path) == ["system", "train", "base", "bare"]

    def test_one_script_and_always_a_new_one(
        self, environments: Environments, host: LocalHost, home: Path, tmp_path: Path
    ) -> None:
        environments.list(host)
        make_venv(home / ".venv")
        assert ".venv" in of_the_test(environments.list(host), tmp_path)
        assert host.scripts == 2


class TestConfigs:
    def test_all_after_the_list_without_another_script(
        self, environments: Environments, host: LocalHost
    ) -> None:
        environments.list(host)
        configs = environments.env_configs(host)
        config = environments.config(host, "train")
        assert host.scripts == 1
        assert configs["train"].runicorn_version == "0.7.2"
        assert configs["bare"].runicorn_version is None
        assert config.environment == configs["train"]

    def test_each_by_itself_is_one_script(self, clock: SetClock, host: LocalHost) -> None:
        Environments(30.0, clock).env_configs(host)
        Environments(30.0, clock).config(host, "train")
        assert host.scripts == 2

    def test_configuration(self, environments: Environments, host: LocalHost, home: Path) -> None:
        (home / "runicorn_data").mkdir()
        config = environments.config(host, "system")
        assert config.environment.python_version == "Python 3.9.2"
        assert config.default_storage_root == f"{home}/runicorn_data"
        assert config.storage_root_exists is True
        assert config.home_directory == str(home)
        assert 1024 <= config.suggested_remote_port <= 65535

    def test_no_port_is_suggested_twice(self, environments: Environments, host: LocalHost) -> None:
        environments.list(host)
        ports = [environments.config(host, "train").suggested_remote_port for _ in range(16)]
        assert len(set(ports)) == 16
        assert host.scripts == 1
        environments.config(host, "train")
        assert host.scripts == 2

    def test_old_answers_are_not_used(
        self, environments: Environments, host: LocalHost, clock: SetClock
    ) -> None:
        environments.list(host)
        clock.now += SURVEY_TTL
        environments.env_configs(host)
        assert host.scripts == 2
        environments.config(host, "train")
        assert host.scripts == 2

    def test_another_connection_is_another_host(
        self, environments: Environments, host: LocalHost, tmp_path: Path
    ) -> None:
        environments.list(host)
        other = LocalHost(tmp_path)
        assert "train" not in environments.env_configs(other)
        assert other.scripts == 1

    def test_answers_go_with_their_connection(
        self, environments: Environments, host: LocalHost, home: Path
    ) -> None:
        environments.list(host)
        short_lived = LocalHost(home)
        environments.list(short_lived)
        assert len(environments._known) == 2
        del short_lived
        gc.collect()
        assert list(environments._known) == [host]

    def test_environment_by_path(self, environments: Environments, host: LocalHost, home: Path) -> None:
        for path in ("miniconda3/envs/train", "miniconda3/envs/train/bin/python"):
            assert environments.config(host, f"{home}/{path}").environment.name == "train"

    def test_environment_made_after_the_list(
        self, environments: Environments, host: LocalHost, home: Path
    ) -> None:
        environments.list(host)
        make_venv(home / "venvs" / "new")
        assert environments.config(host, "new").environment.type == "venv"

    @pytest.mark.parametrize("name", ["nothing", "$(touch HIT)", "a\nb", "'", "x" * 5000, "/nowhere"])
    def test_unknown_environment(
        self, environments: Environments, host: LocalHost, home: Path, name: str
    ) -> None:
        with pytest.raises(EnvironmentNotFound) as raised:
            environments.config(host, name)
        assert str(raised.value).startswith("Environment '")
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 1000
        assert not list(home.glob("HIT*"))

    def test_unknown_environment_says_so(self, environments: Environments, host: LocalHost) -> None:
        with pytest.raises(EnvironmentNotFound) as raised:
            environments.config(host, "x")
        assert str(raised.value) == "Environment 'x' not found. Please check the environment name."


class TestConcurrently:
    def test_no_lock_is_held_while_a_host_is_asked(self, environments: Environments, host: LocalHost) -> None:
        stuck = StuckHost()
        waiting = threading.Thread(target=environments.list, args=(stuck,), name="asks-a-stuck-host")
        waiting.start()
        try:
            assert stuck.asked.wait(30)
            assert "train" in environments.env_configs(host)
        finally:
            stuck.release.set()
            waiting.join(30)
        assert not waiting.is_alive()

    def test_an_older_answer_does_not_replace_a_newer(
        self, environments: Environments, clock: SetClock, host: LocalHost
    ) -> None:
        """Two lists are on their way; the first to be asked answers last."""
        slow = StuckHost(host)
        first = threading.Thread(target=environments.list, args=(slow,), name="asks-first")
        first.start()
        assert slow.asked.wait(30)
        clock.now += 1
        slow.is_stuck = False
        environments.list(slow)
        kept = environments._known[slow]
        slow.release.set()
        first.join(30)
        assert environments._known[slow] is kept


class StuckHost:
    """Answers (as `behind` does) only when it is told to."""

    def __init__(self, behind: LocalHost | None = None) -> None:
        self.is_stuck = True
        self.asked = threading.Event()
        self.release = threading.Event()
        self._behind = behind

    def run_script(self, script: str, *, timeout: float, command: str | None = None) -> ScriptResult:
        if self.is_stuck:
            self.asked.set()
            assert self.release.wait(30)
        if self._behind is None:
            return ScriptResult(0, answer_of_nothing(script), b"")
        return self._behind.run_script(script, timeout=timeout, command=command)


READ_TOKEN = (
    "import base64, json, sys, zlib; "
    'print(json.loads(zlib.decompress(base64.b64decode(sys.argv[1])))["token"])'
)


def answer_of_nothing(script: str) -> bytes:
    token = json.loads(zlib.decompress(base64.b64decode(script.split()[-1])))["token"]
    answer = {"home": "/h", "storage_root": "/h/s", "environments": [], "free_ports": []}
    return f"@@{token} {json.dumps(answer)}\n".encode()


class TestStorageCandidates:
    def test_found(self, environments: Environments, host: LocalHost, home: Path) -> None:
        (home / "runicorn_data" / "runs" / "x").mkdir(parents=True)
        (home / "runicorn_data" / "runs" / "x" / "meta.json").touch()
        found = environments.storage_candidates(host, "system", None, 3)
        assert (found.scan_root, found.max_depth, found.truncated) == (str(home), 3, False)
        assert [(item.path, item.run_count, item.score) for item in found.candidates] == [
            (f"{home}/runicorn_data", 1, 111)
        ]
        assert host.scripts == 1

    @pytest.mark.parametrize(("given", "used"), [(-5, 1), (0, 1), (1, 1), (8, 8), (9, 8), (10**9, 8)])
    def test_depth_is_clamped(
        self, environments: Environments, host: LocalHost, given: int, used: int
    ) -> None:
        assert environments.storage_candidates(host, "system", "~", given).max_depth == used

    @pytest.mark.parametrize(
        ("scan_root", "error"),
        [("~/nothing", RemotePathNotFound), ("/dev/null", NotADirectory), ("a\0b", InvalidValue)],
    )
    def test_scan_root(
        self, environments: Environments, host: LocalHost, scan_root: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error) as raised:
            environments.storage_candidates(host, "system", scan_root, 3)
        assert str(raised.value).isprintable()

    def test_environment(self, environments: Environments, host: LocalHost) -> None:
        environments.storage_candidates(host, "train", None, 1)
        with pytest.raises(EnvironmentNotFound, match="'nothing' not found"):
            environments.storage_candidates(host, "nothing", None, 1)
        assert host.scripts == 2


@pytest.fixture
def liar(tmp_path: Path) -> LocalHost:
    """A host whose `python3` answers what the file `answer` holds, under the right token."""
    (tmp_path / "liar").mkdir()
    python = tmp_path / "liar" / "python3"
    python.write_text(
        "#!/bin/sh\n"
        f"token=$({sys.executable} -I -c '{READ_TOKEN}' \"$6\")\n"
        """printf '\\n@@%s ' "$token"; cat "$HOME/answer"; echo\n"""
    )
    python.chmod(0o755)
    return LocalHost(tmp_path, path=f"{tmp_path}/liar:/usr/bin:/bin")


def lie(tmp_path: Path, **changes: Any) -> None:
    entry = {
        "name": "x",
        "type": "venv",
        "python": "/x/bin/python",
        "version": "Python 3.11.7",
        "runicorn": "0.7.2",
    }
    answer = {
        "home": "/home/me",
        "storage_root": "/home/me/runicorn_data",
        "storage_root_exists": True,
        "environments": [entry | item for item in changes.pop("entries", [{}])],
        "environment": None,
        "free_ports": [40000],
        "scan_root": "/home/me",
        "candidates": [],
        "truncated": False,
    }
    (tmp_path / "answer").write_text(json.dumps(answer | changes))


class TestHostileHost:
    def test_an_answer_as_it_should_be(
        self, environments: Environments, liar: LocalHost, tmp_path: Path
    ) -> None:
        lie(tmp_path)
        assert [item.name for item in environments.list(liar)] == ["x"]

    @pytest.mark.parametrize(
        "change",
        [
            {"name": None},
            {"name": ""},
            {"name": ["x"]},
            {"name": {"x": 1}},
            {"name": "a\nb"},
            {"name": "\x1b]0;evil\x07"},
            {"name": "\ud800"},
            {"name": "\u202egpj.exe"},
            {"name": "x" * 5000},
            {"type": "windows"},
            {"type": ["conda"]},
            {"python": "relative"},
            {"python": "/x\0y"},
            {"python": 7},
            {"version": None},
            {"version": "Python 3.11.7; rm -rf /"},
            {"version": "Python 3.11.7\n"},
            {"version": "Python " + "1" * 10_000},
        ],
    )
    def test_odd_environments_are_left_out(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        lie(tmp_path, entries=[{"name": "fine"}, {**change}])
        assert [item.name for item in environments.list(liar)] == ["fine"]

    @pytest.mark.parametrize("version", [7, True, [], "", "<script>", "0.7.2\n", "9" * 1000, {"a": 1}])
    def test_odd_runicorn_version_is_none(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, version: Any
    ) -> None:
        lie(tmp_path, entries=[{"runicorn": version}])
        assert environments.list(liar)[0].runicorn_version is None

    def test_no_name_twice_and_no_more_than_two_hundred(
        self, environments: Environments, liar: LocalHost, tmp_path: Path
    ) -> None:
        lie(tmp_path, entries=[{"name": "x"}] * 3 + [{"name": f"n{number}"} for number in range(1000)])
        found = environments.list(liar)
        assert len({item.name for item in found}) == len(found) <= 200

    @pytest.mark.parametrize(
        "changes",
        [
            {"home": None},
            {"home": "relative"},
            {"home": "/a\nb"},
            {"home": "/" + "x" * 5000},
            {"storage_root": ["/x"]},
            {"storage_root": 7},
            {"environments": None},
            {"environments": {"0": {}}},
            {"environments": "x"},
            {"free_ports": 40000},
        ],
    )
    def test_unusable_answers(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, changes: dict[str, Any]
    ) -> None:
        lie(tmp_path, **changes)
        with pytest.raises(RemoteCommandFailed) as raised:
            environments.list(liar)
        assert raised.value.code == "ANSWER_UNUSABLE"

    @pytest.mark.parametrize(
        "ports", [[], [0], [-1], [65536], [True], ["40000"], [None], [1.5], [[40000]], [10**30]]
    )
    def test_odd_ports_give_the_default(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, ports: Any
    ) -> None:
        lie(tmp_path, free_ports=ports)
        assert environments.config(liar, "x").suggested_remote_port == 23300

    @pytest.mark.parametrize("value", [1, "yes", None, [True], {}])
    def test_what_is_not_true_is_false(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, value: Any
    ) -> None:
        lie(tmp_path, storage_root_exists=value)
        assert environments.config(liar, "x").storage_root_exists is False

    @pytest.mark.parametrize("asked", ["x", 7, [], {}, {"name": "y"}, [{"name": "y"}]])
    def test_odd_environment_asked_for(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, asked: Any
    ) -> None:
        lie(tmp_path, environment=asked)
        with pytest.raises(EnvironmentNotFound):
            environments.config(liar, "y")

    def test_odd_candidates_are_left_out(
        self, environments: Environments, liar: LocalHost, tmp_path: Path
    ) -> None:
        fine = {"path": "/s", "run_count": 1, "has_archive": False, "has_index": True, "score": 116}
        odd = [
            {"path": "relative"},
            {"path": "/a\nb"},
            {"path": None},
            {"run_count": "1"},
            {"run_count": -1},
            {"run_count": True},
            {"run_count": 10**30},
            {"score": 1.5},
        ]
        lie(
            tmp_path,
            candidates=[7, None, [], *({**fine, **item} for item in odd), {**fine, "has_archive": "yes"}],
        )
        found = environments.storage_candidates(liar, "system", None, 3).candidates
        assert [(item.path, item.has_archive, item.has_index) for item in found] == [("/s", False, True)]

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            ("SOME_CODE", "SOME_CODE"),
            ("<b>", "ANSWER_UNUSABLE"),
            (["x"], "ANSWER_UNUSABLE"),
            ("A" * 1000, "ANSWER_UNUSABLE"),
            (None, "ANSWER_UNUSABLE"),
        ],
    )
    def test_odd_failures_are_short_and_printable(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, error: Any, code: str
    ) -> None:
        lie(tmp_path, error=error, message="\x1b[2J" + "m" * 1_000_000)
        with pytest.raises(RemoteCommandFailed) as raised:
            environments.list(liar)
        assert raised.value.code == code
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 1000

    @pytest.mark.parametrize(
        "text", ["", "null", "[]", "7", "{", "[" * 100_000, '{"home": ' + "9" * 10_000 + "}"]
    )
    def test_no_answer_at_all(
        self, environments: Environments, liar: LocalHost, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "answer").write_text(text)
        with pytest.raises(RemoteCommandFailed):
            environments.list(liar)
