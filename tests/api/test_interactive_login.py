"""Hosts that ask at the login: the question goes to the client, its answers go back, one login serves all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from runicorn_remote.services import Services
from runicorn_remote.settings import Settings
from tests.api.user import User, outcome
from tests.hosts.second_factor import (
    CODE_ALONE,
    KEY_THEN_CODE,
    PASSWORD_AND_CODE_ASKED,
    PASSWORD_ASKED,
    PASSWORD_THEN_CODE,
    SecondFactorHost,
)
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import SERVES, make_stand_in
from tests.hosts.waiting import until

WAIT = 10.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=str(tmp_path / "state"), frontend="off", heartbeat_interval=0.2)


@pytest.fixture
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SecondFactorHost]:
    home = tmp_path / "host"
    home.mkdir()
    make_stand_in(home / ".virtualenvs" / "serves", SERVES)
    with SecondFactorHost(home, first=getattr(request, "param", KEY_THEN_CODE)) as host:
        yield host


@pytest.fixture
def user(client: FlaskClient, host: SecondFactorHost, services: Services) -> User:
    path = services.known_hosts.file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(host.known_hosts_lines()) + "\n")
    return User(client, host)  # type: ignore[arg-type]


def credentials(user: User, **changes: Any) -> dict[str, Any]:
    return user.account(private_key=user.server.client_key_text, use_agent=False, **changes)  # type: ignore[attr-defined]


def challenge(answer: Any) -> dict[str, Any]:
    assert outcome(answer) == (401, "INTERACTIVE_AUTH_REQUIRED"), answer.get_json()
    detail: dict[str, Any] = answer.get_json()["detail"]
    return detail


def test_key_and_code(user: User, host: SecondFactorHost) -> None:
    answer = user.post("connect", credentials(user))
    detail = challenge(answer)
    assert answer.headers["WWW-Authenticate"] == "SSH-keyboard-interactive"
    assert 0 < detail.pop("expires_in") <= 110
    challenge_id = detail.pop("challenge_id")
    assert detail == {
        "code": "INTERACTIVE_AUTH_REQUIRED",
        "message": f"Connection failed: {user.connection_id} asks: Verification code:",
        "host": host.host,
        "port": host.port,
        "username": host.username,
        "name": "Two steps",
        "instructions": "Open your app.",
        "prompts": [{"prompt": "Verification code: ", "echo": False}],
    }
    done = user.post("connect", credentials(user, challenge_id=challenge_id, responses=[host.code]))
    assert (done.status_code, done.get_json()["connected"]) == (200, True)
    # One login serves all: environments, files, the viewer and its tunnel, with and without credentials.
    assert user.ask("conda-envs").status_code == 200
    assert user.ask("fs/list").status_code == 200
    started = user.post("viewer/start", credentials(user, remote_root="~/d", conda_env="serves"))
    assert started.status_code == 200, started.get_json()
    assert user.post("connect", credentials(user)).status_code == 200
    assert (host.logins, host.questions) == (1, 1)


def test_a_start_asks_by_itself(user: User, host: SecondFactorHost) -> None:
    body = credentials(user, remote_root="~/d", conda_env="serves")
    asked = challenge(user.post("viewer/start", body))
    assert user.get("viewer/sessions").get_json() == {"sessions": []}
    answers = {"challenge_id": asked["challenge_id"], "responses": [host.code]}
    assert user.post("viewer/start", body | answers).status_code == 200


def test_a_wrong_code_fails_and_the_next_request_asks_anew(user: User, host: SecondFactorHost) -> None:
    first = challenge(user.post("connect", credentials(user)))["challenge_id"]
    wrong = user.post("connect", credentials(user, challenge_id=first, responses=["000000"]))
    assert outcome(wrong) == (500, "AUTH_FAILED")
    again = user.post("connect", credentials(user, challenge_id=first, responses=[host.code]))
    assert outcome(again) == (400, "CHALLENGE_UNKNOWN")
    second = challenge(user.post("connect", credentials(user)))["challenge_id"]
    assert second != first
    assert (
        user.post("connect", credentials(user, challenge_id=second, responses=[host.code])).status_code == 200
    )


def test_who_asks_again_gets_the_same_question(user: User, host: SecondFactorHost) -> None:
    first = challenge(user.post("connect", credentials(user)))
    second = challenge(user.post("connect", credentials(user)))
    assert first["challenge_id"] == second["challenge_id"]
    assert host.questions == 1


def test_answers_that_do_not_fit_leave_the_question_open(user: User, host: SecondFactorHost) -> None:
    asked = challenge(user.post("connect", credentials(user)))["challenge_id"]
    for responses in ([], [host.code, "more"], None):
        answer = user.post("connect", credentials(user, challenge_id=asked, responses=responses))
        assert outcome(answer) == (400, "CHALLENGE_RESPONSES")
    for unusable in ("text", [1], [None], ["x" * 2000], ["a\0"]):
        answer = user.post("connect", credentials(user, challenge_id=asked, responses=unusable))
        assert outcome(answer) == (422, "VALIDATION_FAILED")
        assert host.code not in answer.text
    done = user.post("connect", credentials(user, challenge_id=asked, responses=[host.code]))
    assert done.status_code == 200


def test_a_challenge_is_of_one_login_only(user: User, host: SecondFactorHost) -> None:
    asked = challenge(user.post("connect", credentials(user)))["challenge_id"]
    answers = {"challenge_id": asked, "responses": [host.code]}
    for other in ({"password": "another"}, {"username": "another"}, {"host": "localhost"}):
        answer = user.post("connect", credentials(user) | answers | other)
        assert outcome(answer) == (400, "CHALLENGE_UNKNOWN")
    forged = user.post("connect", credentials(user, challenge_id="x" * 32, responses=[host.code]))
    assert outcome(forged) == (400, "CHALLENGE_UNKNOWN")
    assert user.post("connect", credentials(user) | answers).status_code == 200


class TestExpiry:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(state_dir=str(tmp_path / "state"), frontend="off", challenge_timeout=0.3)

    def test_a_question_that_nobody_answers_ends(self, user: User, host: SecondFactorHost) -> None:
        asked = challenge(user.post("connect", credentials(user)))["challenge_id"]
        until(lambda: host.connection_count() == 0, WAIT, "the login is given up")
        late = user.post("connect", credentials(user, challenge_id=asked, responses=[host.code]))
        assert outcome(late) == (400, "CHALLENGE_UNKNOWN")


def test_shutting_down_does_not_wait_for_answers(
    user: User, host: SecondFactorHost, services: Services
) -> None:
    challenge(user.post("connect", credentials(user)))
    began = time.monotonic()
    services.close()
    assert time.monotonic() - began < WAIT
    until(lambda: host.connection_count() == 0, WAIT, "the login is given up")


@pytest.mark.parametrize("host", [PASSWORD_THEN_CODE, PASSWORD_AND_CODE_ASKED], indirect=True)
def test_password_and_code(user: User, host: SecondFactorHost) -> None:
    """The password answers what asks for it; the code is never answered with the password."""
    body = user.account(password=host.password, use_agent=False)
    asked = challenge(user.post("connect", body))
    assert [prompt["prompt"] for prompt in asked["prompts"]] == ["Verification code: "]
    done = user.post("connect", body | {"challenge_id": asked["challenge_id"], "responses": [host.code]})
    assert done.status_code == 200, done.get_json()
    assert host.answers[-1] == [host.code]
    assert host.password not in [answer for answers in host.answers[-1:] for answer in answers]


@pytest.mark.parametrize("host", [PASSWORD_ASKED], indirect=True)
def test_a_password_that_is_only_asked_for_is_no_question(user: User, host: SecondFactorHost) -> None:
    assert user.post("connect", user.account(password=host.password, use_agent=False)).status_code == 200
    wrong = user.post("connect", user.account(password="wrong", use_agent=False))
    assert outcome(wrong) == (500, "AUTH_FAILED")


@pytest.mark.parametrize("host", [CODE_ALONE, PASSWORD_ASKED], indirect=True)
def test_without_any_credential_the_host_may_ask(user: User, host: SecondFactorHost) -> None:
    body = user.account(use_agent=False)
    asked = challenge(user.post("connect", body))
    (prompt,) = asked["prompts"]
    answer = host.password if prompt["prompt"] == "Password: " else host.code
    done = user.post("connect", body | {"challenge_id": asked["challenge_id"], "responses": [answer]})
    assert done.status_code == 200, done.get_json()


@pytest.mark.parametrize("host", [PASSWORD_ASKED], indirect=True)
def test_a_refused_key_is_not_made_up_for_by_questions(user: User, host: SecondFactorHost) -> None:
    assert outcome(user.post("connect", credentials(user))) == (500, "AUTH_FAILED")


def test_several_prompts_and_what_a_host_puts_into_them(user: User, host: SecondFactorHost) -> None:
    host.title, host.instructions = "a\x1b[2Jb", "c\x07d\nnext"
    host.prompts = [("Code\x1b]0;x\x07: ", False), ("Reason: ", True)]
    asked = challenge(user.post("connect", credentials(user)))
    assert (asked["name"], asked["instructions"]) == ("a[2Jb", "cd\nnext")
    assert asked["prompts"] == [{"prompt": "Code]0;x: ", "echo": False}, {"prompt": "Reason: ", "echo": True}]
    answers = {"challenge_id": asked["challenge_id"], "responses": [host.code, ""]}
    assert user.post("connect", credentials(user) | answers).status_code == 200


def test_a_host_that_asks_without_end_is_left(user: User, host: SecondFactorHost) -> None:
    host.prompts = [("?", True)] * 17
    assert outcome(user.post("connect", credentials(user))) == (500, "TOO_MANY_QUESTIONS")


def test_other_hosts_and_status_do_not_wait_for_the_answer(user: User, host: SecondFactorHost) -> None:
    challenge(user.post("connect", credentials(user)))
    assert user.get("status").get_json()["connection_count"] == 0
    logins = [thread for thread in threading.enumerate() if thread.name.startswith("login-")]
    assert len(logins) == 1


def test_a_lost_link_is_not_logged_in_again_behind_the_users_back(
    user: User, host: SecondFactorHost, services: Services
) -> None:
    services.start()
    asked = challenge(user.post("connect", credentials(user)))
    answers = {"challenge_id": asked["challenge_id"], "responses": [host.code]}
    user.post("connect", credentials(user) | answers)
    session = user.post("viewer/start", credentials(user, remote_root="~/d", conda_env="serves"))
    session_id = session.get_json()["session"]["sessionId"]
    host.kill_connections()

    def shown() -> dict[str, Any]:
        status: dict[str, Any] = user.get(f"viewer/status/{session_id}").get_json()
        return status

    until(lambda: shown()["status"] == "disconnected", WAIT, "a person is needed")
    assert shown()["errorCode"] == "INTERACTIVE_AUTH_REQUIRED"
    assert host.questions == 1, "nobody was there to answer, so nothing was asked"
    asked = challenge(user.post("connect", credentials(user)))
    answers = {"challenge_id": asked["challenge_id"], "responses": [host.code]}
    assert user.post("connect", credentials(user) | answers).status_code == 200
    until(lambda: shown()["status"] == "running", WAIT, "the session goes on")
    assert (shown()["sessionId"], host.logins) == (session_id, 2)


@pytest.mark.sshd
def test_a_jump_host_asks_for_itself(
    client: FlaskClient, host: SecondFactorHost, services: Services, private_home: Path, tmp_path: Path
) -> None:
    """The question names the jump host, the target's password is not told to it, one login serves all."""
    (tmp_path / "target").mkdir()
    with SshServer(tmp_path / "target") as target:
        directory = private_home / ".ssh"
        directory.mkdir(mode=0o700)
        key = directory / "jump"
        key.touch(0o600)
        key.write_text(host.client_key_text)
        (directory / "config").write_text(
            f"Host jump\n HostName {host.host}\n Port {host.port}\n User {host.username}\n"
            f" IdentityFile {key}\n"
            f"Host gpu\n HostName {target.host}\n Port {target.port}\n ProxyJump jump\n"
        )
        path = services.known_hosts.file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*host.known_hosts_lines(), *target.known_hosts_lines()]) + "\n")
        body = {"host": "gpu", "username": target.username, "use_agent": False}
        body["private_key"] = Path(target.client_key).read_text()
        user = User(client, target)
        asked = challenge(user.post("connect", body))
        assert (asked["host"], asked["port"], asked["username"]) == (host.host, host.port, host.username)
        answers = {"challenge_id": asked["challenge_id"], "responses": [host.code]}
        done = user.post("connect", body | answers)
        assert done.status_code == 200, done.get_json()
        connection_id = done.get_json()["connection_id"]
        assert user.get("fs/list", connection_id=connection_id).status_code == 200
        assert (host.logins, host.answers) == (1, [[host.code]])
        assert user.post("disconnect", {"host": "gpu", "username": target.username}).get_json()["ok"] is True
        until(lambda: host.connection_count() == 0, WAIT, "the jump host has no connection left")
