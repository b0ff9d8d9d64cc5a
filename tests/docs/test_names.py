"""What the pages name is there: links, settings, error codes."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from runicorn_remote.cli import command_line
from runicorn_remote.services import Services, session_fields
from runicorn_remote.settings import ENVIRONMENT_PREFIX, Settings
from tests.docs import pages

API = pages.REPOSITORY / "docs/api.md"
OBSERVABILITY = pages.REPOSITORY / "docs/observability.md"
TROUBLESHOOTING = pages.REPOSITORY / "docs/troubleshooting.md"
ABOUT_SETTINGS = [
    pages.REPOSITORY / "docs/operations.md",
    pages.REPOSITORY / "docs/reliability.md",
    TROUBLESHOOTING,
]
SETTINGS = {field.name for field in dataclasses.fields(Settings)}

# The command line has codes of its own, which docs/cli.md need not list; the demo shows none.
_SOURCES = ("errors.py", "api", "services", "ssh", "onhost")
_CODE = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)+")
_COMMAND_LINE = re.compile(r"(?<![\w.-])runicorn-remote ([a-z][^`|\n;#)&<>]*)")
_TAKE_A_CODE = {"Failure", "_answer", "_change", "end"}
# No answer has them: those of classes that others are made of, and of errors that end inside.
_NEVER_SENT = {
    "ACCESS_DENIED",
    "HOST_UNREACHABLE",
    "LOGIN_FAILED",
    "PROBE_FAILED",
    "SECRET_UNREADABLE",
    "SSH_ERROR",
}
# Of werkzeug's errors, whose names become codes, those that a request to this API can cause.
_OF_HTTP = {
    "BAD_GATEWAY",
    "BAD_REQUEST",
    "METHOD_NOT_ALLOWED",
    "NOT_FOUND",
    "REQUEST_ENTITY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
}


@pytest.mark.parametrize("page", pages.ALL_PAGES, ids=pages.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in pages.links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in pages.anchors(target), f"{link}: there is no such heading"


def test_every_page_is_listed() -> None:
    listed = set(pages.links(pages.REPOSITORY / "docs/index.md"))
    assert {page.name for page in pages.PAGES[1:]} - {"index.md"} <= listed


def test_every_setting_exists() -> None:
    for page in pages.PAGES:
        variables = re.findall(rf"\b{ENVIRONMENT_PREFIX}([A-Z_]+)", page.read_text("utf-8"))
        spans = pages.code_spans(pages.prose(page))
        assigned = [match[1] for span in spans if (match := re.match(r"([a-z_]+) = ", span))]
        assert {name.lower() for name in variables} <= SETTINGS | {"config", "url", "token"}, page.name
        assert set(assigned) <= SETTINGS, page.name
    for page in ABOUT_SETTINGS:
        spans = pages.code_spans(pages.prose(page))
        named = {span for span in spans if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", span)}
        assert named - {"known_hosts", "local_port"} <= SETTINGS, page.name


@pytest.mark.parametrize("page", pages.ALL_PAGES, ids=pages.name)
def test_every_verb_and_option_exists(page: Path) -> None:
    for line in _COMMAND_LINE.findall(page.read_text("utf-8")):
        command: click.Command = command_line
        words = line.split()
        while words and isinstance(command, click.Group):
            assert words[0].startswith("-") or words[0] in command.commands, f"runicorn-remote {line}"
            command = command.commands.get(words.pop(0), command)
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, line


def test_every_status_is_explained() -> None:
    told = set(re.findall(r"^\| `([a-z]+)` \|", pages.prose(API).partition("| `status` |")[2], re.M))
    assert told == {
        value for name, value in vars(session_fields).items() if name.isupper() and isinstance(value, str)
    }


@pytest.mark.parametrize("page", [API, TROUBLESHOOTING], ids=pages.name)
def test_every_error_code_is_explained(page: Path) -> None:
    documented = {span for span in pages.code_spans(tables(page)) if _CODE.fullmatch(span)}
    in_source = {code for path in sources() for code in codes(path)}
    assert in_source >= _NEVER_SENT
    assert documented == (in_source - _NEVER_SENT) | _OF_HTTP


def test_every_metric_is_explained(tmp_path: Path) -> None:
    services = Services(Settings(state_dir=str(tmp_path)))
    services.heartbeat.age = lambda: 0.0  # type: ignore[method-assign]
    families = list(services.metrics.registry.collect())
    services.close()
    names = {
        name.removesuffix("_created")
        for family in families
        if family.name.startswith("runicorn_remote")
        for name in [family.name + ("_total" if family.type == "counter" else "")]
    }
    table = pages.prose(OBSERVABILITY).partition("| metric |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `([a-z_]+)` \|", table, re.M)
    assert {f"runicorn_remote_{name}" for name in told} == names - {"runicorn_remote"} | {
        "runicorn_remote_info"
    }


def test_every_action_that_happens_by_itself_is_explained() -> None:
    told = set(pages.code_spans(tables(OBSERVABILITY)))
    reported = set()
    for path in (pages.REPOSITORY / "runicorn_remote/services").glob("*.py"):
        reported |= set(re.findall(r'_report(?:\.on)?\(\s*(?:\w+, )?"([a-z.]+)"', path.read_text("utf-8")))
    assert len(reported) >= 10
    assert reported <= told


# --- the source


def sources() -> Iterator[Path]:
    for name in _SOURCES:
        path = pages.REPOSITORY / "runicorn_remote" / name
        yield from path.rglob("*.py") if path.is_dir() else [path]


def codes(path: Path) -> Iterator[str]:
    """The codes a module gives to errors and sessions: the constants that stand where codes stand."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for place in places(node):
            for part in ast.walk(place):
                if (
                    isinstance(part, ast.Constant)
                    and isinstance(part.value, str)
                    and _CODE.fullmatch(part.value)
                ):
                    yield part.value


def places(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):  # code = "X"; error, error_code = error, "X"; X = "X"
        target = ast.unparse(node.targets[0])
        return [node.value] if "code" in target or ast.unparse(node.value) == repr(target) else []
    if isinstance(node, ast.Dict):  # {"error": "X"}
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        return [value for key, value in zip(keys, node.values, strict=True) if key == "error"]
    if isinstance(node, ast.Call):  # Error(…, code="X"), Failure("X", …), session.end(…, "X")
        function = ast.unparse(node.func).rpartition(".")[2]
        named = [each.value for each in node.keywords if each.arg in ("code", "error_code")]
        return [*named, *(node.args if function in _TAKE_A_CODE else [])]
    return []


def tables(page: Path) -> str:
    return "\n".join(line for line in pages.prose(page).splitlines() if line.startswith("|"))
