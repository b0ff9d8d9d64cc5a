"""What runs on the remote machine, as real files, and how one of them becomes a script for `sh -s`.

A *question* is one Python module of this package (standard library only, Python >= 3.6) with a
function `main(arguments)`. `build` puts it, and the modules of this package it imports, behind
`bootstrap.sh`, which finds a Python to run it. The whole goes over stdin, so the user's login shell
only ever sees the two plain words `sh -s`; it may be csh or fish.

Every answer is a line `@@TOKEN {json}` with a token made for this one call: whatever a chatty
`.bashrc` prints around it is ignored.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from runicorn_remote.errors import RemoteCommandFailed

_PACKAGE = "runicorn_remote.onhost"
# Python 3.11's parser can fail in several threads at once ("AST constructor recursion depth mismatch").
_parsing = threading.Lock()
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Program:
    """One question, ready to be sent to `sh -s`."""

    script: str
    token: str

    def event(self, line: bytes) -> dict[str, Any] | None:
        """The JSON object in one line of the host's output, or None if the line is not ours."""
        marker = f"@@{self.token} ".encode()
        start = line.find(marker)
        if start < 0:
            return None
        try:
            event = json.loads(line[start + len(marker) :])
        except (ValueError, RecursionError):
            return None
        return event if isinstance(event, dict) else None

    def answer(self, stdout: bytes, stderr: bytes, exit_status: int) -> dict[str, Any]:
        """The last object of a finished program.

        Raises `RemoteCommandFailed`: with the program's own `code` and `message` if it reported a
        failure, else with what the host printed instead of an answer.
        """
        events = [event for line in stdout.splitlines() if (event := self.event(line)) is not None]
        if not events:
            raise no_answer(stdout, stderr, exit_status)
        answer = events[-1]
        if "error" in answer:
            raise self.failure(answer)
        return answer

    @staticmethod
    def failure(event: Mapping[str, Any]) -> RemoteCommandFailed:
        """The failure a program reported. The host may have sent anything: a code that is a word, a
        message that is one short line."""
        code, message = event.get("error"), event.get("message")
        known = isinstance(code, str) and _CODE.fullmatch(code)
        return RemoteCommandFailed(
            shown(message) if isinstance(message, str) else "The host's answer makes no sense",
            code=str(code) if known else "ANSWER_UNUSABLE",
        )


def no_answer(stdout: bytes, stderr: bytes, exit_status: int) -> RemoteCommandFailed:
    """The error for a host that ran (or refused to run) a script and did not answer it."""
    if b"@@no-python" in stdout:
        return RemoteCommandFailed(
            "No Python 3.6 or newer was found on the host",
            code="PYTHON_NOT_FOUND",
            hint="Install Python there, or put it into the PATH of non-interactive SSH logins.",
        )
    said = shown((stderr.strip() or stdout.strip())[-300:].decode("utf-8", "replace"))
    return RemoteCommandFailed(
        f"The host did not run our script (exit status {exit_status}){': ' + said if said else ''}",
        hint="Does a command work there? Try: ssh HOST sh -c true. A login shell or a startup file that "
        "exits, or an account limited to one command, cannot be used.",
    )


def shown(text: str, longest: int = 500) -> str:
    """A string from a host, short and printable, to show to a person."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else " " for character in text)


def build(question: str, arguments: Mapping[str, Any]) -> Program:
    """The program that asks `question` (a module name of this package) with JSON-able `arguments`."""
    token = secrets.token_hex(12)
    # ASCII JSON in single quotes: no byte of an argument can mean anything to the shell.
    sent = json.dumps({**arguments, "token": token}).replace("'", "\\u0027")
    script = _bootstrap().replace("__PROGRAM__", _program(question)).replace("__ARGUMENTS__", sent)
    return Program(script, token)


@cache
def _bootstrap() -> str:
    return resources.files(_PACKAGE).joinpath("bootstrap.sh").read_text("ascii")


@cache
def _program(question: str) -> str:
    """The question's source with the modules it imports before it, quoted for the inside of '…'."""
    modules: dict[str, str] = {}
    with _parsing:
        _collect(question, modules)
    source = "\n".join(modules.values()) + "\nrun(main)\n"
    return source.replace("'", "'\\''")


def _collect(module: str, modules: dict[str, str]) -> None:
    """Depth first, so that every module comes after those it imports; their import lines are dropped."""
    source = resources.files(_PACKAGE).joinpath(f"{module}.py").read_text("ascii")
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{_PACKAGE}."):
            imported = (node.module or "").rpartition(".")[2]
            if imported not in modules:
                _collect(imported, modules)
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = ""
    modules[module] = "\n".join(lines)
