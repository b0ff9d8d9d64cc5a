"""What runs on the remote machine, as real files, and how one of them becomes one command line.

A *question* is one Python module of this package (standard library only, Python >= 3.6) with a
function `main(arguments)`. `build` packs it with the modules of this package it imports, behind
`bootstrap.sh`, which finds a Python to run it. The user's login shell may be csh or fish: it sees
one line of plain words, base64 and single quotes, or, where a server takes no command of 17 kB,
just `sh -s`, and the same line goes over stdin.

Every answer is a line `@@TOKEN {json}` with a token made for this one call: whatever a chatty
`.bashrc` prints around it is ignored.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from runicorn_remote.errors import RemoteCommandFailed
from runicorn_remote.onhost.packing import pack, packed, program_text

# For a startup file that reads a line of our input.
_PREAMBLE = ":\n:\n"
_RUNNER = (
    "import sys; sys.version_info < (3, 6) and sys.exit(97); import binascii, zlib; "
    'exec(compile(zlib.decompress(binascii.a2b_base64(sys.argv[1])), "<runicorn-remote>", "exec"))'
)
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Program:
    """One question, ready to be sent: as `script` to `sh -s`, or as `command` to any login shell."""

    script: str
    command: str
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


def bad_answer() -> RemoteCommandFailed:
    """The error for an answer in the right form with values that cannot be."""
    return RemoteCommandFailed("The host's answer makes no sense", code="BAD_ANSWER")


def shown(text: str, longest: int = 500) -> str:
    """A string from a host, short and printable, to show to a person."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else " " for character in text)


def build(question: str, arguments: Mapping[str, Any]) -> Program:
    """The program that asks `question` (a module name of this package) with JSON-able `arguments`."""
    token = secrets.token_hex(12)
    sent = pack(json.dumps({**arguments, "token": token}))
    command = f"{_start()} {packed(question)} {sent}"
    return Program(f"{_PREAMBLE}exec {command}\n", command, token)


def relay_program() -> str:
    """The source of the relay to compute nodes, which `launch` puts into a file."""
    return program_text("node_relay")


@cache
def _start() -> str:
    """The beginning of the command: `bootstrap.sh` on one line, and the runner."""
    text = resources.files(__name__).joinpath("bootstrap.sh").read_text("ascii")
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    return f"sh -c '{' '.join(lines)}' '{_RUNNER}'"
