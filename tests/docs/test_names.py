"""What the pages name is there: links, settings, error codes."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.services import viewer_session
from runicorn_remote.settings import ENVIRONMENT_PREFIX, Settings
from tests.docs import pages

API = pages.REPOSITORY / "docs/api.md"
TROUBLESHOOTING = pages.REPOSITORY / "docs/troubleshooting.md"
SETTINGS = {field.name for field in dataclasses.fields(Settings)}

# The command line has codes of its own, which docs/cli.md need not list; the demo shows none.
_SOURCES = ("errors.py", "api", "services", "ssh", "onhost")
_CODE = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)*")
# Classes that others are made of, and an error between two parts of ours. No answer has them.
_NEVER_SENT = {
    "ACCESS_DENIED",
    "BUSY",
    "CONFLICT",
    "ERROR",
    "HOST_UNREACHABLE",
    "LOGIN_FAILED",
    "PROBE_FAILED",
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
    """Those that stand as `name = value` or as an environment variable, and those operators.md names."""
    for page in pages.PAGES:
        text = page.read_text("utf-8")
        for name in re.findall(rf"\b{ENVIRONMENT_PREFIX}([A-Z_]+)", text):
            assert name.lower() in SETTINGS | {"config", "url", "token"}, f"{pages.name(page)}: {name}"
        for span in pages.code_spans(pages.prose(page)):
            match = re.fullmatch(r"([a-z_]+) = .+|([a-z]+(?:_[a-z]+)+)", span)
            if match and (match[1] or page.name == "operators.md"):
                assert (match[1] or match[2]) in SETTINGS | {"local_port"}, f"{pages.name(page)}: {span}"


def test_every_status_is_explained() -> None:
    statuses = {
        value for name, value in vars(viewer_session).items() if name.isupper() and isinstance(value, str)
    }
    documented = set(re.findall(r"^\| `([a-z]+)` \|", pages.prose(API), re.M))
    assert documented == statuses


@pytest.mark.parametrize("page", [API, TROUBLESHOOTING], ids=pages.name)
def test_every_error_code_is_explained(page: Path) -> None:
    documented = {span for span in pages.code_spans(tables(page)) if _CODE.fullmatch(span)}
    in_source = {code for path in sources() for code in codes(path)}
    assert in_source >= _NEVER_SENT
    assert documented == (in_source - _NEVER_SENT) | _OF_HTTP


# --- the source


def sources() -> Iterator[Path]:
    for name in _SOURCES:
        path = pages.REPOSITORY / "runicorn_remote" / name
        yield from path.rglob("*.py") if path.is_dir() else [path]


def codes(path: Path) -> Iterator[str]:
    """The codes a module gives to errors and sessions."""
    tree = ast.parse(path.read_text("utf-8"))
    named = {
        node.targets[0].id: text(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Assign) and any("code" in ast.unparse(target) for target in node.targets):
            found = [node.value]  # code = "X", self._error, self._error_code = error, "X"
        elif isinstance(node, ast.Call):
            found = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if called(node) in _TAKES_CODE:
                found += node.args
        elif isinstance(node, ast.FunctionDef):
            found = [default for default in node.args.defaults if default is not None]
        for value in found:
            for part in ast.walk(value):
                code = text(part) or (named.get(part.id, "") if isinstance(part, ast.Name) else "")
                if _CODE.fullmatch(code):
                    yield code


# Functions whose arguments have a code among them.
_TAKES_CODE = {"Failure", "_answer", "_change", "end", "_give_up", "resumed"}


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def tables(page: Path) -> str:
    return "\n".join(line for line in pages.prose(page).splitlines() if line.startswith("|"))
