"""The question `storage_candidates`, on real trees."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote import onhost
from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost.storage_candidates import StorageScan
from tests.fakes import LocalHost


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def ask(home: Path, scan_root: str | None = None, max_depth: int = 3, **more: Any) -> dict[str, Any]:
    program = onhost.build("storage_candidates", {"scan_root": scan_root, "max_depth": max_depth, **more})
    result = LocalHost(home).run_script(program.script, timeout=60)
    return program.answer(result.stdout, result.stderr, result.exit_status)


def paths(home: Path, *args: Any, **more: Any) -> list[str]:
    return [os.path.relpath(item["path"], home) for item in ask(home, *args, **more)["candidates"]]


def make_runs(root: Path, *runs: str, file: str = "meta.json") -> Path:
    for run in runs:
        (root / "runs" / run).mkdir(parents=True)
        (root / "runs" / run / file).write_text("{}")
    return root


def test_the_best_first(home: Path) -> None:
    make_runs(home / "a", "x")
    make_runs(home / "b", *(f"project/r{number}" for number in range(30)))
    make_runs(home / "runicorn_data", "p/x", "p/y", file="status.json")
    (home / "runicorn_data" / "archive").mkdir()
    (home / "runicorn_data" / "index").mkdir()
    (home / "old" / "archive").mkdir(parents=True)
    (home / "old2" / "index").mkdir(parents=True)
    (home / ".runicorn").mkdir()
    answer = ask(home)
    assert answer["scan_root"] == str(home)
    assert (answer["max_depth"], answer["truncated"]) == (3, False)
    assert answer["candidates"] == [
        candidate(home / "runicorn_data", 2, archive=True, index=True, score=152),
        candidate(home / "b", 30, score=120),
        candidate(home / "a", 1, score=101),
        candidate(home / "old", 0, archive=True, score=25),
        candidate(home / "old2", 0, index=True, score=15),
        candidate(home / ".runicorn", 0, score=10),
    ]


def candidate(
    path: Path, run_count: int, *, archive: bool = False, index: bool = False, score: int
) -> dict[str, Any]:
    return {
        "path": str(path),
        "run_count": run_count,
        "has_archive": archive,
        "has_index": index,
        "score": score,
    }


def test_runs_without_a_run_are_not_storage(home: Path) -> None:
    (home / "athlete" / "runs" / "2024" / "berlin").mkdir(parents=True)
    (home / "athlete" / "runs" / "data.json").touch()
    assert paths(home) == []


def test_runs_lie_at_most_four_levels_below(home: Path) -> None:
    make_runs(home / "four", "a/b/c/run")
    make_runs(home / "five", "a/b/c/d/run")
    assert paths(home) == ["four"]


def test_a_run_inside_a_run_is_part_of_it(home: Path) -> None:
    make_runs(home / "x", "run", "run/inner")
    assert ask(home)["candidates"][0]["run_count"] == 1


def test_depth(home: Path) -> None:
    for depth in range(1, 10):
        make_runs(home.joinpath(*"abcdefghi"[:depth]) / "store", "x")
    # The root itself is depth 0, as deep as /a/store is 2.
    assert len(paths(home, None, 2)) == 1
    assert len(paths(home, None, 3)) == 2
    assert len(paths(home, None, 8)) == 7


def test_the_scan_root_itself(home: Path) -> None:
    make_runs(home / "store", "x")
    assert paths(home, "~/store", 1) == ["store"]
    assert paths(home, str(home / "store"), 1) == ["store"]


def test_inside_of_storage_is_its_data_and_other_archives_are_looked_into(home: Path) -> None:
    store = make_runs(home / "store", "x")
    make_runs(store / "archive" / "old", "x")
    make_runs(store / "runs" / "x" / "artifacts", "y")
    make_runs(home / "archive" / "lab", "x")
    make_runs(store / "sub", "x")
    assert paths(home) == ["store", "archive/lab", "store/sub", "."]


@pytest.mark.parametrize(
    "name", ["node_modules", "site-packages", "__pycache__", ".cache", ".git", "micromamba"]
)
def test_pruned_by_name(home: Path, name: str) -> None:
    make_runs(home / name / "store", "x")
    assert paths(home) == []


def test_environments_are_pruned_but_a_project_in_one_is_not(home: Path) -> None:
    make_runs(home / "conda" / "store", "x")
    (home / "conda" / "conda-meta").mkdir()
    for directory in ("lib", "share", "project"):
        make_runs(home / "venv" / directory, "x")
    (home / "venv" / "pyvenv.cfg").touch()
    assert paths(home) == ["venv/project"]


class TestLinks:
    def test_followed_and_each_directory_once_by_its_own_path(self, home: Path, tmp_path: Path) -> None:
        make_runs(tmp_path / "scratch" / "store", "x")
        (home / "data").symlink_to(tmp_path / "scratch")
        make_runs(home / "here", "x")
        (home / "also-here").symlink_to(home / "here")
        assert paths(home) == ["data/store", "here"]

    def test_loops_end(self, home: Path) -> None:
        make_runs(home / "a" / "store", "x")
        (home / "a" / "loop").symlink_to(home / "a")
        (home / "a" / "self").symlink_to("self")
        (home / "a" / "up").symlink_to("../..")
        (home / "a" / "root").symlink_to("/")
        assert paths(home, None, 8) == ["a/store"]

    def test_runs_on_another_disk(self, home: Path, tmp_path: Path) -> None:
        make_runs(tmp_path / "disk", "x")
        (home / "store").mkdir()
        (home / "store" / "runs").symlink_to(tmp_path / "disk" / "runs")
        (tmp_path / "disk" / "runs" / "loop").symlink_to(tmp_path / "disk" / "runs")
        assert ask(home)["candidates"] == [candidate(home / "store", 1, score=101)]


class TestLimits:
    def test_twelve_at_most(self, home: Path) -> None:
        for number in range(15):
            make_runs(home / f"s{number:02}", "x")
        answer = ask(home)
        assert [os.path.basename(item["path"]) for item in answer["candidates"]] == [
            f"s{n:02}" for n in range(12)
        ]
        assert answer["truncated"] is True

    def test_after_the_deadline_what_was_found(self, home: Path) -> None:
        make_runs(home / "store", "x")
        scan = StorageScan(str(home), time.monotonic() - 1)
        scan.search(3)
        assert (scan.candidates, scan.truncated) == ([], True)

    def test_names_that_cannot_be_told(self, home: Path) -> None:
        make_runs(home / os.fsdecode(b"caf\xe9"), "x")
        make_runs(home / "a\nb", "x")
        make_runs(home / "模型", "x")
        assert paths(home) == ["模型"]


class TestFailures:
    @pytest.mark.parametrize(
        ("scan_root", "code"),
        [
            ("~/nothing", "PATH_NOT_FOUND"),
            ("/nothing/at/all", "PATH_NOT_FOUND"),
            ("~/file", "NOT_A_DIRECTORY"),
            ("~/file/below", "PATH_NOT_FOUND"),
            ("~/dangling", "PATH_NOT_FOUND"),
            ("~/loop", "PATH_NOT_FOUND"),
            ("x" * 5000, "PATH_NOT_FOUND"),
            ("a\0b", "INVALID_PATH"),
            ("\ud800", "INVALID_PATH"),
        ],
    )
    def test_scan_root(self, home: Path, scan_root: str, code: str) -> None:
        (home / "file").touch()
        (home / "dangling").symlink_to("nowhere")
        (home / "loop").symlink_to("loop")
        with pytest.raises(RemoteCommandFailed) as raised:
            ask(home, scan_root)
        assert raised.value.code == code

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    @pytest.mark.parametrize("below", ["", "/below"])
    def test_scan_root_that_may_not_be_read(self, home: Path, below: str) -> None:
        (home / "shut" / "below").mkdir(parents=True)
        (home / "shut").chmod(0)
        with pytest.raises(RemoteCommandFailed) as raised:
            ask(home, f"~/shut{below}")
        (home / "shut").chmod(0o700)
        assert raised.value.code == "PATH_FORBIDDEN"

    def test_unknown_environment(self, home: Path) -> None:
        with pytest.raises(RemoteCommandFailed) as raised:
            ask(home, environment="nothing")
        assert raised.value.code == "ENVIRONMENT_NOT_FOUND"

    def test_relative_scan_root_starts_at_home(self, home: Path) -> None:
        make_runs(home / "data" / "store", "x")
        assert ask(home, "data/../data")["scan_root"] == f"{home}/data"
