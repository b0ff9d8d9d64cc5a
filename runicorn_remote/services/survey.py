"""What a host says about its Python environments, checked: nothing odd gets past here.

The host's programs already leave out what cannot be shown (`runicorn_remote.onhost.environments`); these are
the same rules, for a host that does not keep them. A bad item of a list is left out, anything else that
is bad makes the answer unusable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from runicorn_remote.errors import RemoteCommandFailed

MAX_ENVIRONMENTS = 200
MAX_CANDIDATES = 12
_MAX_PATH = 4096
_TYPES = ("conda", "system", "venv", "virtualenv", "pyenv", "uv", "poetry", "pixi")
_PYTHON_VERSION = re.compile(r"Python [0-9]{1,3}\.[0-9]{1,3}[0-9a-z.+]{0,20}")
_RUNICORN_VERSION = re.compile(r"[0-9][0-9A-Za-z.!+_-]{0,63}")


@dataclass(frozen=True)
class Environment:
    """One Python of a host. `path` is its interpreter, `python_version` what `python --version` says."""

    name: str
    type: str
    python_version: str
    path: str
    is_default: bool
    runicorn_version: str | None


@dataclass(frozen=True)
class Survey:
    """A host's answer. `environments` has the default first; `asked` is the one the question named."""

    environments: tuple[Environment, ...]
    asked: Environment | None
    home: str
    storage_root: str
    storage_root_exists: bool
    free_ports: tuple[int, ...]


@dataclass(frozen=True)
class StorageCandidate:
    path: str
    run_count: int
    has_archive: bool
    has_index: bool
    score: int


@dataclass(frozen=True)
class StorageCandidates:
    """What looks like storage below `scan_root`, the best first. `truncated`: there may be more."""

    scan_root: str
    max_depth: int
    candidates: tuple[StorageCandidate, ...]
    truncated: bool


def read_survey(answer: Mapping[str, Any]) -> Survey:
    """Check the answer to `survey`. Raises `RemoteCommandFailed` (ANSWER_UNUSABLE)."""
    home, storage_root = answer.get("home"), answer.get("storage_root")
    if not (_is_path(home) and _is_path(storage_root)):
        raise _unusable()
    asked = answer.get("environment")
    ports = [port for port in _items(answer, "free_ports", 100) if type(port) is int and 1 <= port <= 65535]
    return Survey(
        environments=_in_order(_environments(_items(answer, "environments", MAX_ENVIRONMENTS))),
        asked=next(_environments([asked]), None),
        home=home,
        storage_root=storage_root,
        storage_root_exists=answer.get("storage_root_exists") is True,
        free_ports=tuple(dict.fromkeys(ports)),
    )


def read_storage_candidates(answer: Mapping[str, Any], max_depth: int) -> StorageCandidates:
    """Check the answer to `storage_candidates`. Raises `RemoteCommandFailed` (ANSWER_UNUSABLE)."""
    scan_root = answer.get("scan_root")
    if not _is_path(scan_root):
        raise _unusable()
    return StorageCandidates(
        scan_root=scan_root,
        max_depth=max_depth,
        candidates=tuple(_candidates(_items(answer, "candidates", MAX_CANDIDATES))),
        truncated=answer.get("truncated") is True,
    )


def _environments(items: list[Any]) -> Iterator[Environment]:
    names: set[str] = set()
    for item in items:
        environment = _environment(item)
        if environment and environment.name not in names:
            names.add(environment.name)
            yield environment


def _environment(item: object) -> Environment | None:
    if not isinstance(item, dict):
        return None
    name, kind, python = item.get("name"), item.get("type"), item.get("python")
    version, runicorn = item.get("version"), item.get("runicorn")
    if not (_is_text(name) and kind in _TYPES and _is_path(python)):
        return None
    if not (isinstance(version, str) and _PYTHON_VERSION.fullmatch(version)):
        return None
    if not (isinstance(runicorn, str) and _RUNICORN_VERSION.fullmatch(runicorn)):
        runicorn = None
    return Environment(name, str(kind), version, python, False, runicorn)


def _in_order(environments: Iterator[Environment]) -> tuple[Environment, ...]:
    """Those that have runicorn first, the system's before others, else as the host lists them.

    The first is the default: the same that a viewer without an environment would be started with.
    """
    ordered = sorted(
        environments,
        key=lambda environment: (environment.runicorn_version is None, environment.type != "system"),
    )
    return tuple(replace(environment, is_default=not index) for index, environment in enumerate(ordered))


def _candidates(items: list[Any]) -> Iterator[StorageCandidate]:
    for item in items:
        if not isinstance(item, dict) or not _is_path(item.get("path")):
            continue
        numbers = [item.get("run_count"), item.get("score")]
        if all(type(number) is int and 0 <= number < 1_000_000 for number in numbers):
            yield StorageCandidate(
                path=item["path"],
                run_count=item["run_count"],
                has_archive=item.get("has_archive") is True,
                has_index=item.get("has_index") is True,
                score=item["score"],
            )


def _items(answer: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    items = answer.get(name)
    if not isinstance(items, list):
        raise _unusable()
    return items[:limit]


def _is_text(value: object) -> TypeGuard[str]:
    # Lone surrogates and control characters are not printable.
    return isinstance(value, str) and 0 < len(value) <= _MAX_PATH and value.isprintable()


def _is_path(value: object) -> TypeGuard[str]:
    return _is_text(value) and value.startswith("/")


def _unusable() -> RemoteCommandFailed:
    return RemoteCommandFailed("The host's answer cannot be used", code="ANSWER_UNUSABLE")
