"""The advice before a start."""

from __future__ import annotations

import pytest

from runicorn_remote.services.own_version import advice


@pytest.mark.parametrize("theirs", ["0.7.2", "0.7.0", "0.7.99", "0.7.2rc1", "0.7.3.dev1+local", "unknown"])
def test_nothing_to_say(theirs: str) -> None:
    assert advice(theirs, "0.7.2") is None


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (None, "not installed"),
        ("0.6.0", "older than 0.7.2 beside this server. A viewer of it never ends itself"),
        ("0.8.0", "newer than 0.7.2"),
        ("1.0", "newer than 0.7.2"),
    ],
)
def test_something_to_say(theirs: str | None, said: str) -> None:
    assert said in str(advice(theirs, "0.7.2"))


def test_older_and_well_behaved() -> None:
    assert "never ends" not in str(advice("0.7.2", "0.9.0"))
