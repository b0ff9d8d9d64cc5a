"""Packs a question and the modules it imports, to be sent: the less there is, the sooner it runs."""

from __future__ import annotations

import ast
import base64
import io
import threading
import tokenize
import zlib
from functools import cache
from importlib import resources

_PACKAGE = "runicorn_remote.onhost"
# Python 3.11's parser can fail in several threads at once ("AST constructor recursion depth mismatch").
_parsing = threading.Lock()


@cache
def packed(question: str) -> str:
    """The question's program, ready to be sent."""
    return pack(program_text(question))


@cache
def program_text(question: str) -> str:
    """The question's source with the modules it imports before it."""
    modules: dict[str, str] = {}
    with _parsing:
        _collect(question, modules)
    return "\n".join(modules.values()) + "\nrun(main)\n"


def pack(text: str) -> str:
    """ASCII text compressed, in base64: no character of it can mean anything to a shell."""
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def _collect(module: str, modules: dict[str, str]) -> None:
    """Depth first, so that every module comes after those it imports; their import lines are dropped."""
    source = resources.files(_PACKAGE).joinpath(f"{module}.py").read_text("ascii")
    tree = ast.parse(source)
    lines = _without_comments(source)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
            imported = (node.module or "").rpartition(".")[2]
            if imported not in modules:
                _collect(imported, modules)
            _replace(lines, node)
        elif isinstance(node, ast.ImportFrom) and node.module == "typing":
            _replace(lines, node)  # its names stand in annotations only, and these are strings
    for each in ast.walk(tree):
        if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
            _replace(lines, each, "0")  # a docstring, which may be all that a class has
    modules[module] = "\n".join(line.rstrip() for line in lines)


def _without_comments(source: str) -> list[str]:
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return lines


def _replace(lines: list[str], node: ast.stmt, text: str = "") -> None:
    """Put `text` where a statement is that has its lines to itself."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    lines[first : last + 1] = [" " * node.col_offset + text] + [""] * (last - first)
