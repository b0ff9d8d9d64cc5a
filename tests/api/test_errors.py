"""One table maps every error to its answer; whatever happens, the answer is JSON with `detail`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from runicorn_remote import errors
from runicorn_remote.services import Services
from runicorn_remote.ssh.http_probe import ProbeFailed
from runicorn_remote.ssh.keys import NotAKey
from tests.api.user import faults, outcome

# Every class of the tree, the abstract ones included: a new one has to be decided on here.
STATUS = {
    errors.RemoteError: 500,
    errors.InvalidValue: 400,
    errors.InvalidConnectionId: 400,
    errors.HostKeyNotSeen: 400,
    errors.ChallengeUnusable: 400,
    errors.KeyUnusable: 400,
    NotAKey: 400,
    errors.PassphraseRequired: 400,
    errors.PassphraseWrong: 400,
    errors.SavedServerMismatch: 400,
    errors.LaunchArgumentsUnusable: 400,
    errors.NotADirectory: 400,
    errors.AccessDenied: 403,
    errors.TargetForbidden: 403,
    errors.TokenRequired: 401,
    errors.NotFound: 404,
    errors.ConnectionNotFound: 404,
    errors.SessionNotFound: 404,
    errors.InstallNotFound: 404,
    errors.SavedServerNotFound: 404,
    errors.EnvironmentNotFound: 404,
    errors.RemotePathNotFound: 404,
    errors.PathForbidden: 403,
    errors.Conflict: 409,
    errors.HostKeyConfirmationRequired: 409,
    errors.LocalPortInUse: 409,
    errors.IdempotencyKeyReused: 422,
    errors.Busy: 503,
    errors.LoginBackoff: 429,
    errors.StateError: 500,
    errors.RemoteCommandFailed: 500,
    errors.ViewerStartFailed: 500,
    errors.RunicornNotInstalled: 500,
    errors.ViewerExited: 500,
    errors.StartCancelled: 500,
    errors.InstallFailed: 500,
    errors.InstallCancelled: 500,
    errors.SSHError: 500,
    errors.Unreachable: 503,
    errors.LoginFailed: 500,
    errors.AuthenticationFailed: 500,
    errors.HostKeyRevoked: 500,
    errors.NoCommonAlgorithm: 500,
    errors.WeakAlgorithmsOnly: 500,
    errors.NothingToLogInWith: 500,
    errors.InteractionImpossible: 500,
    errors.InteractiveAuthRequired: 401,
    errors.SshConfigUnusable: 500,
    errors.LinkLost: 503,
    ProbeFailed: 500,
}
PROBLEM = errors.HostKeyProblem(
    "gpu1", 2222, "[gpu1]:2222", "ssh-ed25519", "SHA256:x", "ssh-ed25519 AAAA", "unknown"
)

QUESTION: dict[str, Any] = {
    "challenge_id": "c",
    "host": "gpu1",
    "port": 22,
    "username": "me",
    "name": "",
    "instructions": "",
    "prompts": (("Code: ", False),),
    "expires_in": 60.0,
}
WITH_A_DETAIL_OF_ITS_OWN = (
    errors.HostKeyConfirmationRequired,
    errors.IdempotencyKeyReused,
    errors.InteractiveAuthRequired,
)
# They have the code of another class: the difference is the server's own.
SAME_TO_CALLERS = (NotAKey, errors.NothingToLogInWith, errors.InteractionImpossible)


def all_errors(cls: type[errors.RemoteError] = errors.RemoteError) -> Iterator[type[errors.RemoteError]]:
    yield cls
    for below in cls.__subclasses__():
        yield from all_errors(below)


def make(cls: type[errors.RemoteError]) -> errors.RemoteError:
    if issubclass(cls, errors.HostKeyConfirmationRequired):
        return cls(PROBLEM)
    if issubclass(cls, errors.IdempotencyKeyReused):
        return cls()
    if issubclass(cls, errors.InteractiveAuthRequired):
        return cls("the reason", **QUESTION)
    return cls("the reason")


def answer_to(app: Flask, error: Exception) -> TestResponse:
    """What a client sees when a view raises this."""

    def view() -> None:
        raise error

    app.add_url_rule("/raise", view_func=view)
    return app.test_client().get("/raise")


def test_the_table_above_is_complete() -> None:
    assert set(all_errors()) == set(STATUS)


@pytest.mark.parametrize("cls", STATUS, ids=lambda cls: cls.__name__)
def test_every_error_has_its_status_and_code(app: Flask, cls: type[errors.RemoteError]) -> None:
    error = make(cls)
    answer = answer_to(app, error)
    assert outcome(answer) == (STATUS[cls], cls.code)
    assert answer.mimetype == "application/json"
    body = answer.get_json()
    if cls not in WITH_A_DETAIL_OF_ITS_OWN:
        assert body["detail"] == f"{cls.prefix}the reason"
    assert body.get("hint") == cls.default_hint
    assert ("Retry-After" in answer.headers) == issubclass(cls, errors.Busy)


def test_codes_tell_classes_apart() -> None:
    codes = [cls.code for cls in STATUS if cls not in SAME_TO_CALLERS]
    assert len(set(codes)) == len(codes)
    assert all(code == code.upper() and " " not in code for code in codes)


def test_code_and_hint_of_the_one_error_win(app: Flask) -> None:
    error = errors.Unreachable("refused", code="CONNECTION_REFUSED", hint="Is sshd running?")
    assert answer_to(app, error).get_json() == {
        "detail": "Connection failed: refused",
        "code": "CONNECTION_REFUSED",
        "hint": "Is sshd running?",
    }


def test_how_long_to_wait(app: Flask) -> None:
    assert answer_to(app, errors.Busy("later", retry_after=30)).headers["Retry-After"] == "30"


def test_a_log_tail_is_in_the_detail(app: Flask) -> None:
    detail = answer_to(app, errors.ViewerExited("it ended", log_tail=("one", "two"))).get_json()["detail"]
    assert detail.startswith("Failed to start Remote Viewer: it ended\n")
    assert detail.endswith("\none\ntwo")


def test_the_unexpected_shows_nothing_of_the_inside(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = answer_to(app, ZeroDivisionError("a secret of the inside"))
    assert outcome(answer) == (500, "INTERNAL_ERROR")
    assert "ZeroDivisionError" not in answer.text
    assert "a secret" not in answer.text
    assert any(record.exc_info for record in caplog.records), "the log has the traceback"


def test_no_such_route(client: FlaskClient) -> None:
    for path in ("/api/remote", "/api/remote/nothing", "/api/remote/viewer/status/", "/api/remote/../x"):
        answer = client.get(path)
        assert outcome(answer) == (404, "NOT_FOUND"), path
        assert isinstance(answer.get_json()["detail"], str)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b'{"host": "a",}',
        b"\xff\xfe",
        b'{"host": "\xff"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"port": ' + b"1" * 5000 + b"}",
        b"\0" * 100,
    ],
    ids=[
        "empty",
        "open",
        "word",
        "comma",
        "not utf-8",
        "not utf-8 inside",
        "deep",
        "deep objects",
        "long",
        "nul",
    ],
)
def test_a_body_that_is_not_json(client: FlaskClient, body: bytes) -> None:
    for route in ("connect", "viewer/start", "connections/saved"):
        answer = client.post(f"/api/remote/{route}", data=body, content_type="application/json")
        assert outcome(answer) == (400, "BAD_REQUEST"), route
        assert isinstance(answer.get_json()["detail"], str)


@pytest.mark.parametrize("body", [b"null", b"1", b'"text"', b"[]", b"true", b"NaN"])
def test_json_that_is_no_object(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/remote/connect", data=body, content_type="application/json")
    assert answer.status_code == 422
    faults(answer)


def test_numbers_that_json_does_not_have(client: FlaskClient) -> None:
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        body = b'{"host": "gpu1", "username": "me", "port": ' + number + b"}"
        answer = client.post("/api/remote/connect", data=body, content_type="application/json")
        assert faults(answer) == {"port"}


def test_a_post_has_to_be_json(client: FlaskClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        answer = client.post("/api/remote/connect", data=b'{"host": "gpu1"}', content_type=content_type)
        assert outcome(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
    answer = client.post("/api/remote/connect", data=b"{}", content_type="application/json; charset=utf-8")
    assert answer.status_code == 422


def test_a_body_of_over_one_mebibyte(client: FlaskClient, services: Services) -> None:
    limit = services.settings.max_body_bytes
    assert limit == 1024 * 1024
    for route in ("connect", "connections/saved", "disconnect"):
        answer = client.post(
            f"/api/remote/{route}", data=b'"' + b"x" * limit + b'"', content_type="application/json"
        )
        assert outcome(answer) == (413, "REQUEST_ENTITY_TOO_LARGE")
        fits = client.post(
            f"/api/remote/{route}", data=b'"' + b"x" * (limit - 2) + b'"', content_type="application/json"
        )
        assert fits.status_code == 422


def test_all_faults_at_once_and_never_the_value_that_was_sent(client: FlaskClient) -> None:
    canary = "c4n4ry-s3cret"
    body = {
        "host": 5,
        "port": canary,
        "username": [canary],
        "password": {"a": canary},
        "private_key": [canary],
        "private_key_path": 7,
        "passphrase": [[canary]],
        "use_agent": canary,
        "saved_server_id": False,
        "local_port": canary,
        "remote_port": "70000",
        "conda_env": {canary: 1},
    }
    answer = client.post("/api/remote/viewer/start", json=body)
    assert faults(answer) == {*body, "remote_root"}
    assert canary not in answer.text
    assert all(fault["loc"][0] == "body" for fault in answer.get_json()["detail"])


def test_each_field_is_complained_about_once(client: FlaskClient) -> None:
    answer = client.post("/api/remote/connect", json={"host": 5})
    assert [fault["loc"] for fault in answer.get_json()["detail"]] == [["body", "host"], ["body", "username"]]


def test_what_is_missing_is_said_so(client: FlaskClient) -> None:
    answer = client.post("/api/remote/connect", json={})
    assert answer.get_json()["detail"] == [
        {"loc": ["body", name], "msg": "Missing data for required field.", "type": "missing"}
        for name in ("host", "username")
    ]
    answer = client.get("/api/remote/fs/exists")
    assert [fault["loc"] for fault in answer.get_json()["detail"]] == [
        ["query", "connection_id"],
        ["query", "path"],
    ]


def test_every_answer_says_not_to_be_sniffed_framed_or_stored(client: FlaskClient) -> None:
    for path in ("/api/health", "/api/remote/nothing", "/api/remote/connect"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["connect", "conda-envs", "fs/list", "viewer/start"])
def test_too_many_slow_requests(client: FlaskClient, services: Services, method: str) -> None:
    while services.slow_requests.acquire(blocking=False):
        pass
    if method in ("connect", "viewer/start"):
        body = {"host": "gpu1", "username": "me", "remote_root": "~"}
        answer = client.post(f"/api/remote/{method}", json=body)
    else:
        answer = client.get(f"/api/remote/{method}", query_string={"connection_id": "me@gpu1:22"})
    assert outcome(answer) == (503, "TOO_MANY_SLOW_REQUESTS")
    assert int(answer.headers["Retry-After"]) > 0
    for path in ("/api/health", "/api/remote/status", "/api/remote/sessions", "/api/remote/viewer/sessions"):
        assert client.get(path).status_code == 200
