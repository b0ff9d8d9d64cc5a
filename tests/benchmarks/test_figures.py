"""What is made of measured values: ratios, who failed, how something grows."""

from __future__ import annotations

import itertools
import threading

import pytest

from benchmarks.figures import Bar, Curve, Outcome, Trial, interleave
from benchmarks.report import failures, markdown

ABOUT = {
    "date": "today",
    "command": "it",
    "seconds": 1.0,
    "system": "Linux",
    "cores": 2,
    "python": "3",
    "paramiko": "5",
    "ssh": "OpenSSH",
    "load": 0.0,
    "load_after": 0.0,
}


class TestRows:
    def test_a_ratio_is_the_median_of_those_within_each_round(self) -> None:
        ours, other = iter([2.0, 30.0, 9.0]), iter([1.0, 10.0, 10.0])
        table = interleave(
            {"ours": lambda: {"s": next(ours)}, "ssh": lambda: {"s": next(other)}}, 3, warm_up=False
        )
        row = table.row("s", "a row", "s", "ours", "ssh", Bar(1.1))
        assert row.ratios() == [2.0, 3.0, 0.9]
        assert row.ratio == 2.0
        assert row.reached is False

    def test_the_order_moves_on_each_round(self) -> None:
        order: list[str] = []

        def note(name: str) -> dict[str, float]:
            order.append(name)
            return {}

        interleave({name: lambda name=name: note(name) for name in "abc"}, 2, warm_up=False)
        assert "".join(order) == "abcbca"

    def test_one_that_fails_is_left_out_and_the_others_go_on(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        calls = itertools.count()

        def fails_in_the_second_round() -> dict[str, float]:
            if next(calls) == 1:
                raise OSError("no such luck")
            return {"s": 1.0}

        contestants = {"ours": lambda: {"s": 2.0}, "ssh": fails_in_the_second_round}
        table = interleave(contestants, 4, warm_up=False)
        row = table.row("s", "a row", "s", "ours", "ssh")
        assert row.values == {"ours": [2.0] * 4, "ssh": [1.0]}
        assert failures(row) == {"ssh": "OSError: no such luck"}
        assert next(calls) == 2
        assert "no such luck" in markdown([row], ABOUT)
        assert "no such luck" in capsys.readouterr().err

    def test_no_round_begins_beyond_the_time_but_for_the_first(self) -> None:
        pause = threading.Event()

        def slow() -> dict[str, float]:
            pause.wait(0.05)
            return {"s": 1.0}

        assert interleave({"a": slow}, 5, warm_up=False, seconds=0).column("s") == {"a": [1.0]}
        assert interleave({"a": slow}, 3, warm_up=False, seconds=600).column("s") == {"a": [1.0] * 3}


class TestCurves:
    @pytest.mark.parametrize(
        ("points", "exponent", "word"),
        [
            ({1: [3.0], 10: [30.0], 100: [300.0]}, 1.0, "linear"),
            ({1: [5.0, 4.0, 6.0], 10: [5.0], 100: [5.0]}, 0.0, "constant"),
            ({1: [2.0], 10: [200.0]}, 2.0, "faster than linear"),
            ({0: [7.0], 4: [2.0], 16: [4.0]}, 0.5, "slower than linear"),
            ({1: [8.0], 4: [2.0]}, -1.0, "falls"),
        ],
    )
    def test_the_exponent_says_what_it_is(
        self, points: dict[int, list[float]], exponent: float, word: str
    ) -> None:
        curve = Curve("it", "s", points)
        assert curve.exponent == pytest.approx(exponent)
        assert curve.word == word

    def test_zero_everywhere_is_constant(self) -> None:
        curve = Curve("threads", "", {1: [0.0], 1000: [0.0]})
        assert (curve.exponent, curve.word) == (None, "constant")

    def test_small_numbers_may_be_left_out(self) -> None:
        curve = Curve("it", "s", {1: [100.0], 10: [10.0], 100: [100.0]}, fitted_from=10)
        assert curve.exponent == pytest.approx(1.0)


class TestTrials:
    @pytest.mark.parametrize(
        ("outcome", "reached"),
        [
            (Outcome(right=5, of=5, damaged=0, survived=True), True),
            (Outcome(right=4, of=5, damaged=0, survived=True), False),
            (Outcome(right=5, of=5, damaged=1, survived=True), False),
            (Outcome(right=5, of=5, damaged=0, survived=False), False),
            (Outcome(right=0, of=0, damaged=0, survived=False, failed="it broke"), False),
        ],
    )
    def test_all_has_to_be_right(self, outcome: Outcome, reached: bool) -> None:
        trial = Trial("it", {"ours": outcome}, "ours", {"ours": [1.0]})
        assert trial.reached is reached
        assert f"| {'yes' if reached else '**no**'} |" in markdown([trial], ABOUT)
