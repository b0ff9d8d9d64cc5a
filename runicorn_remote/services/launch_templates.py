"""Launch commands of clusters whose login nodes must not run viewers, as the setting `launch` has them.

    launch = ["login*.cluster: srun --jobid {job} --overlap {command}"]

A pattern of host names (`*`, `?`), a colon, and a command: split into words once, as a POSIX shell
would, and run without one. `{command}` is a word of its own; other `{names}` are filled in from a
start's `launch_args`. A command never comes from a request.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from runicorn_remote.errors import LaunchArgumentsUnusable

COMMAND = "{command}"
_PATTERN = re.compile(r"[A-Za-z0-9_.*?-]+|\[[0-9A-Fa-f:.*?]+\]")
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
# Nothing a shell or an option parser could take for more than a value.
_VALUE = re.compile(r"[A-Za-z0-9_.,:=/+][A-Za-z0-9_.,:=/+-]{0,127}")


@dataclass(frozen=True)
class LaunchTemplate:
    """`pattern` in lower case; `words` of the command, one of which is `{command}`."""

    pattern: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> LaunchTemplate:
        """Raises `ValueError` with the end of a sentence."""
        # The pattern of an IPv6 address has colons of its own, in brackets.
        end = text.find("]") if text.startswith("[") else 0
        colon = text.find(":", max(end, 0))
        pattern, command = text[:colon].strip(), text[colon + 1 :]
        if colon < 0 or not _PATTERN.fullmatch(pattern):
            raise ValueError(f"{text!r} does not look like 'HOST: COMMAND'")
        words = shlex.split(command)
        if (
            not words
            or words.count(COMMAND) != 1
            or any(COMMAND in word and word != COMMAND for word in words)
        ):
            raise ValueError(f"{text!r} needs {COMMAND} once, as a word of its own")
        if "{" in words[0] or "\0" in command:
            raise ValueError(f"{text!r} does not begin with a program")
        left = "".join(_PLACEHOLDER.sub("", word) for word in words)
        if "{" in left or "}" in left:
            raise ValueError(f"{text!r} has a brace that belongs to no {{name}}")
        return cls(pattern.strip("[]").lower(), tuple(words))

    @property
    def names(self) -> list[str]:
        """What `launch_args` has to give."""
        found = [name for word in self.words for name in _PLACEHOLDER.findall(word) if word != COMMAND]
        return list(dict.fromkeys(found))

    def matches(self, host: str) -> bool:
        return fnmatchcase(host.rstrip(".").lower(), self.pattern)

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """The words with `values` in them; `{command}` stays. Raises `LaunchArgumentsUnusable`."""
        for name in self.names:
            if name not in values:
                raise LaunchArgumentsUnusable(
                    f"launch_args: {name!r} is missing", code="LAUNCH_ARGUMENT_MISSING"
                )
        for name, value in values.items():
            if name not in self.names:
                known = ", ".join(self.names) or "none"
                raise LaunchArgumentsUnusable(
                    f"launch_args: this host's launch command has no {name[:32]!r}; it has {known}",
                    code="LAUNCH_ARGUMENT_UNKNOWN",
                )
            if not _VALUE.fullmatch(value):
                raise LaunchArgumentsUnusable(
                    f"launch_args: {name!r} has to be 1 to 128 of the characters A-Z a-z 0-9 _ . , : = / + - "
                    "and may not begin with -",
                    code="LAUNCH_ARGUMENT_INVALID",
                )
        return [
            word if word == COMMAND else _PLACEHOLDER.sub(lambda match: values[match[1]], word)
            for word in self.words
        ]


class LaunchTemplates:
    """Immutable; any thread may call it. The first template that matches a host is the one."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Raises `ValueError`."""
        self._templates = [LaunchTemplate.parse(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._templates)

    def command(self, hosts: Iterable[str], values: Mapping[str, str] | None) -> list[str] | None:
        """The words of the launch command of a host with these names; None: viewers run on itself.

        Raises `LaunchArgumentsUnusable`.
        """
        names = list(hosts)
        for template in self._templates:
            if any(template.matches(name) for name in names):
                return template.filled(values or {})
        if values:
            raise LaunchArgumentsUnusable(
                "launch_args: the server has no launch command for this host",
                code="LAUNCH_NOT_CONFIGURED",
                hint="Whoever runs the server sets launch; see docs/clusters.md.",
            )
        return None
