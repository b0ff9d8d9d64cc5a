"""The pause after failed logins: when it begins, how it grows, whom it meets."""

from __future__ import annotations

import pytest

from runicorn_remote.errors import AuthenticationFailed, LoginBackoff, NothingToLogInWith, Unreachable
from runicorn_remote.services.login_backoff import LoginAttempts
from runicorn_remote.ssh.target import Target
from tests.fakes import StandingClock

ME = Target("gpu1", 22, "me")


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def attempts(clock: StandingClock) -> LoginAttempts:
    return LoginAttempts(clock, 60.0)


def fail(attempts: LoginAttempts, target: Target = ME, identity: str = "wrong") -> None:
    with pytest.raises(AuthenticationFailed), attempts.counting(target, identity):
        raise AuthenticationFailed("no")


def succeed(attempts: LoginAttempts, target: Target = ME, identity: str = "right") -> None:
    with attempts.counting(target, identity):
        pass


def pause(attempts: LoginAttempts, target: Target = ME, identity: str = "wrong") -> int:
    """What `Retry-After` says; 0: nothing."""
    try:
        attempts.check(target, identity)
    except LoginBackoff as error:
        return error.retry_after
    return 0


def test_it_grows_from_the_third_failure_on(attempts: LoginAttempts, clock: StandingClock) -> None:
    pauses = []
    for _ in range(12):
        fail(attempts)
        pauses.append(pause(attempts))
        clock.ahead += pauses[-1]
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_sentence_says_when(attempts: LoginAttempts, clock: StandingClock) -> None:
    for _ in range(3):
        fail(attempts)
    clock.ahead += 0.25
    with pytest.raises(LoginBackoff, match=r"3 logins in a row to me@gpu1:22 have failed; .* in 1 s"):
        succeed(attempts)


def test_a_success_ends_it(attempts: LoginAttempts, clock: StandingClock) -> None:
    for _ in range(3):
        fail(attempts)
    clock.ahead += 1
    succeed(attempts)
    fail(attempts)
    fail(attempts)
    assert pause(attempts) == 0


def test_it_is_the_accounts(attempts: LoginAttempts) -> None:
    for spelling in ("gpu1", "GPU1", "gpu1."):
        fail(attempts, Target(spelling, 22, "me"), identity=spelling)
    for same in ("gpu1", "Gpu1."):
        assert pause(attempts, Target(same, 22, "me"))
    for other in (Target("gpu1", 22, "you"), Target("gpu2", 22, "me"), Target("gpu1", 2222, "me")):
        assert not pause(attempts, other)


def test_what_was_let_in_is_not_held_up_by_the_guesses_of_others(attempts: LoginAttempts) -> None:
    succeed(attempts)
    for _ in range(3):
        fail(attempts)
    assert pause(attempts)
    assert not pause(attempts, identity="right")
    fail(attempts, identity="right")
    assert pause(attempts, identity="right"), "it is right no longer"


def test_only_a_refusal_counts(attempts: LoginAttempts) -> None:
    for error in (Unreachable("gone"), NothingToLogInWith("no key")):
        for _ in range(5):
            with pytest.raises(type(error)), attempts.counting(ME, "x"):
                raise error
    assert not pause(attempts)


def test_failures_of_long_ago_are_forgotten(attempts: LoginAttempts, clock: StandingClock) -> None:
    for _ in range(8):
        fail(attempts)
        clock.ahead += 60
    clock.ahead += 1000
    fail(attempts)
    assert not pause(attempts)


def test_without_pauses(clock: StandingClock) -> None:
    attempts = LoginAttempts(clock, 0.0)
    for _ in range(2000):
        fail(attempts)
    assert not pause(attempts)


def test_the_memory_is_bounded(attempts: LoginAttempts) -> None:
    for number in range(2000):
        fail(attempts, Target(f"host-{number}", 22, "me"))
    assert len(attempts._accounts) == 1000
