"""What `doctor` finds: one `Check` a question, told as soon as it is answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from runicorn_remote.errors import RemoteError

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """`seconds`: how long it took, None if it was not tried. `hint`: what to do, where there is something."""

    name: str
    status: Status
    detail: str
    seconds: float | None = None
    code: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class Doubt:
    """What a question returns that is answered, and not as it should be."""

    detail: str
    hint: str
    failed: bool = False


class Checks:
    """Asks and tells. Used by one thread."""

    def __init__(self, tell: Callable[[Check], None], hints: Mapping[str, str] | None = None) -> None:
        """`hints`: by the code of an error, what to do; in place of the error's own."""
        self._tell = tell
        self._hints = hints or {}
        self.all: list[Check] = []

    @property
    def passed(self) -> bool:
        return not any(check.status == "failed" for check in self.all)

    def ask(
        self,
        name: str,
        question: Callable[[], str | Doubt],
        helped: Callable[[RemoteError], bool] = lambda error: False,
    ) -> bool:
        """Whether the answer is no failure. What is raised as `RemoteError` or OSError is one.

        `helped`: whether something was done about an error, so that it is worth asking again.
        """
        while True:
            started = time.monotonic()
            try:
                check = _answered(name, question())
            except RemoteError as error:
                if helped(error):
                    continue
                hint = self._hints.get(error.code, error.hint)
                check = Check(name, "failed", error.reason, code=error.code, hint=hint)
            except OSError as error:
                check = Check(name, "failed", error.strerror or str(error) or type(error).__name__)
            self._add(replace(check, seconds=time.monotonic() - started))
            return check.status != "failed"

    def skip(self, name: str, why: str) -> None:
        self._add(Check(name, "skipped", why))

    def _add(self, check: Check) -> None:
        self.all.append(check)
        self._tell(check)


def _answered(name: str, answer: str | Doubt) -> Check:
    if isinstance(answer, str):
        return Check(name, "ok", answer)
    return Check(name, "failed" if answer.failed else "warning", answer.detail, hint=answer.hint)
