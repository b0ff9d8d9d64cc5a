"""A host that hangs is the trouble of those who ask for it, and of nobody else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest
import requests

from tests.e2e.user import User
from tests.hosts.server import ServerProcess, fetch
from tests.hosts.silent import SilentHost

pytestmark = [pytest.mark.e2e, pytest.mark.sshd]

HANGING = 8
SLOW_REQUESTS = 12
AT_ONCE = 1.0
SOON = 5.0


@pytest.fixture
def server_environment() -> dict[str, str]:
    # Longer than the test: what hangs here hangs until the host lets go.
    return {"RUNICORN_REMOTE_BANNER_TIMEOUT": "100", "RUNICORN_REMOTE_SLOW_REQUESTS": str(SLOW_REQUESTS)}


@contextlib.contextmanager
def hanging(server: ServerProcess, number: int) -> Iterator[list[Future[requests.Response]]]:
    """So many logins under way that get no answer, and get one at the end of the block."""
    with ThreadPoolExecutor(number, thread_name_prefix="login") as executor:
        with SilentHost() as silent:
            logins = [
                # Different users: logins of one user to one host wait for each other before they dial.
                executor.submit(
                    server.post,
                    "/api/remote/connect",
                    {"host": silent.host, "port": silent.port, "username": f"user{index}", "password": "x"},
                )
                for index in range(number)
            ]
            silent.accept(number)
            yield logins
            assert not any(login.done() for login in logins)
        answers = [login.result(SOON) for login in logins]
        assert {answer.status_code for answer in answers} == {503}


def test_others_do_not_notice(server: ServerProcess, user: User) -> None:
    with hanging(server, HANGING):
        for path in (
            "/api/health",
            "/api/remote/status",
            "/api/remote/sessions",
            "/api/remote/viewer/sessions",
        ):
            for _ in range(50):
                assert seconds(partial(ask, server, path)) < AT_ONCE
        assert seconds(user.connect) < SOON
        assert user.get("status")["connection_count"] == 1


@pytest.mark.viewer
def test_viewers_do_not_notice(server: ServerProcess, user: User) -> None:
    with hanging(server, HANGING):
        session = user.start_viewer()
        assert answered(fetch(session["url"] + "/api/health"))
        assert seconds(lambda: user.stop_viewer(session)) < SOON


@pytest.mark.viewer
def test_beyond_the_limit_slow_requests_are_turned_away_and_the_rest_is_served(
    server: ServerProcess, user: User
) -> None:
    user.connect()
    session = user.start_viewer()
    with hanging(server, SLOW_REQUESTS):
        for _ in range(20):
            began = time.monotonic()
            refused = user.try_to_connect()
            assert time.monotonic() - began < AT_ONCE
            assert refused.status_code == 503
            assert refused.json()["code"] == "TOO_MANY_SLOW_REQUESTS"
            assert int(refused.headers["Retry-After"]) >= 1
        for path in ("fs/list", "config", "conda-envs", "env-configs", "storage-candidates"):
            refused = server.get(f"/api/remote/{path}", connection_id=user.connection_id)
            assert (refused.status_code, "Retry-After" in refused.headers) == (503, True), path
        assert user.try_to_start_viewer().status_code == 503

        assert seconds(partial(ask, server, "/api/health")) < AT_ONCE
        assert seconds(lambda: user.get("status")) < AT_ONCE
        assert answered(fetch(session["url"] + "/api/health"))
        assert seconds(lambda: user.stop_viewer(session)) < SOON
        assert seconds(user.disconnect) < SOON
    user.connect()


def test_one_stuck_account_is_waited_for_by_itself_alone(server: ServerProcess) -> None:
    """All logins to one account of one host wait for the first one; a few of them are no trouble."""
    with SilentHost() as silent, ThreadPoolExecutor(4, thread_name_prefix="login") as executor:
        body = {"host": silent.host, "port": silent.port, "username": "me", "password": "x"}
        logins = [executor.submit(server.post, "/api/remote/connect", body) for _ in range(4)]
        silent.accept(1)
        assert seconds(partial(ask, server, "/api/health")) < AT_ONCE
        silent.close()
        assert {login.result(30).status_code for login in logins} == {503}


def ask(server: ServerProcess, path: str) -> bool:
    return answered(server.get(path))


def answered(response: requests.Response) -> bool:
    assert response.status_code == 200, response.text
    return True


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began
