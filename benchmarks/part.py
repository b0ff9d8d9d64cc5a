"""What a subject is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from benchmarks.figures import Result

# A name for the case that it fails, and what measures it: the others are measured all the same.
Part = tuple[str, Callable[[], Iterable[Result]]]
