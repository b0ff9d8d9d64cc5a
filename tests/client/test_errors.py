"""Every kind of answer that is no result, and what goes out with a request."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import requests

from runicorn_remote import client as names
from runicorn_remote import errors as server_errors
from runicorn_remote.api.errors import status_of
from runicorn_remote.client import (
    Busy,
    Conflict,
    HostKey,
    HostKeyConfirmationRequired,
    RunicornRemoteClient,
    RunicornRemoteError,
    ServerError,
    UnexpectedAnswer,
    ValidationFailed,
    api_client,
)
from tests.client.scripted_server import Answer, ScriptedServer

SECRET = "hunter2-and-more"
HOST_KEY = {
    "host": "gpu1",
    "port": 2222,
    "known_hosts_host": "[gpu1]:2222",
    "key_type": "ssh-ed25519",
    "fingerprint_sha256": "SHA256:abc",
    "public_key": "ssh-ed25519 AAAA",
    "reason": "unknown",
    "a_field_of_the_future": 1,
}
UNKNOWN_HOST = Answer(
    409,
    {
        "detail": {
            "code": "HOST_KEY_CONFIRMATION_REQUIRED",
            "message": "Host key verification failed",
            "host_key": HOST_KEY,
        }
    },
)

KINDS = [
    (400, "INVALID_VALUE", "BadRequest"),
    (400, "KEY_UNUSABLE", "KeyUnusable"),
    (400, "PASSPHRASE_REQUIRED", "PassphraseRequired"),
    (400, "PASSPHRASE_WRONG", "PassphraseWrong"),
    (401, "UNAUTHORIZED", "Unauthorized"),
    (403, "PATH_FORBIDDEN", "Forbidden"),
    (404, "NOT_FOUND", "NotFound"),
    (404, "CONNECTION_NOT_FOUND", "ConnectionNotFound"),
    (404, "SESSION_NOT_FOUND", "SessionNotFound"),
    (404, "ENVIRONMENT_NOT_FOUND", "EnvironmentNotFound"),
    (405, "METHOD_NOT_ALLOWED", "BadRequest"),
    (409, "LOCAL_PORT_IN_USE", "LocalPortInUse"),
    (409, "A_NEW_ONE", "Conflict"),
    (413, "REQUEST_ENTITY_TOO_LARGE", "BadRequest"),
    (422, "VALIDATION_FAILED", "ValidationFailed"),
    (429, "TOO_MANY_REQUESTS", "Busy"),
    (500, "AUTH_FAILED", "AuthenticationFailed"),
    (500, "HOST_KEY_REVOKED", "HostKeyRevoked"),
    (500, "NO_COMMON_ALGORITHM", "LoginFailed"),
    (500, "WEAK_ALGORITHMS_ONLY", "LoginFailed"),
    (500, "RUNICORN_NOT_INSTALLED", "RunicornNotInstalled"),
    (500, "START_CANCELLED", "StartCancelled"),
    (500, "VIEWER_EXITED", "ViewerStartFailed"),
    (500, "VIEWER_START_TIMEOUT", "ViewerStartFailed"),
    (500, "VIEWER_NOT_ANSWERING", "ViewerStartFailed"),
    (500, "INTERNAL_ERROR", "ServerError"),
    (502, "", "ServerError"),
    (503, "CONNECTION_REFUSED", "HostUnreachable"),
    (503, "LINK_LOST", "LinkLost"),
]


def ask(answer: Answer) -> RunicornRemoteError:
    """The exception a login ends in."""
    with ScriptedServer(answer) as server, RunicornRemoteClient(server.url) as client:
        with pytest.raises(RunicornRemoteError) as caught:
            client.connect("gpu1", "me", password=SECRET)
        assert len(server.requests) == 1, "nothing is sent twice"
    assert SECRET not in str(caught.value) + repr(caught.value)
    return caught.value


@pytest.mark.parametrize(("status", "code", "kind"), KINDS)
def test_the_kind_of_an_error(status: int, code: str, kind: str) -> None:
    error = ask(Answer(status, {"detail": "It is so.", "code": code, "hint": "Do that."}))
    assert type(error) is getattr(names, kind)
    assert isinstance(error, requests.HTTPError)
    assert (str(error), error.detail, error.code, error.hint) == ("It is so.", "It is so.", code, "Do that.")
    assert error.status_code == error.response.status_code == status
    assert error.response.json()["detail"] == "It is so."


def test_every_error_of_the_server_has_a_kind() -> None:
    """Those the clients' table does not name have to be told apart by their status."""
    named = {code: kind for _, code, kind in KINDS}
    named |= {"VIEWER_START_FAILED": "ViewerStartFailed", "LOGIN_FAILED": "LoginFailed", "BUSY": "Busy"}
    by_status = {
        400: "BadRequest",
        401: "Unauthorized",
        403: "Forbidden",
        404: "NotFound",
        409: "Conflict",
        422: "ValidationFailed",
        429: "Busy",
        500: "ServerError",
    }
    for kind in _subclasses(server_errors.RemoteError):
        if issubclass(kind, server_errors.HostKeyConfirmationRequired):
            continue
        status = status_of(_made(kind))
        headers = {"Retry-After": "5"} if issubclass(kind, server_errors.Busy) else {}
        error = ask(Answer(status, {"detail": "It is so.", "code": kind.code}, headers))
        expected = named.get(kind.code) or by_status.get(status, "HostUnreachable")
        assert type(error) is getattr(names, expected), kind.code


def _subclasses(kind: type[server_errors.RemoteError]) -> list[type[server_errors.RemoteError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _subclasses(child))]


def _made(kind: type[server_errors.RemoteError]) -> server_errors.RemoteError:
    return kind.__new__(kind)


def test_an_unknown_host_key() -> None:
    error = ask(UNKNOWN_HOST)
    assert isinstance(error, HostKeyConfirmationRequired)
    assert isinstance(error, Conflict)
    assert error.host_key == HostKey.from_dict(HOST_KEY)
    assert error.host_key.host == "gpu1"
    assert not error.host_key.changed
    assert "SHA256:abc of gpu1 port 2222 (unknown)" in str(error)


@pytest.mark.parametrize(
    "host_key", [None, [], {}, {**HOST_KEY, "port": "22"}, {**HOST_KEY, "public_key": None}]
)
def test_a_host_key_that_makes_no_sense_cannot_be_accepted(host_key: Any) -> None:
    detail = {"code": "HOST_KEY_CONFIRMATION_REQUIRED", "message": "Host key", "host_key": host_key}
    assert type(ask(Answer(409, {"detail": detail}))) is Conflict


def test_accepting_sends_what_the_host_showed() -> None:
    with (
        ScriptedServer(UNKNOWN_HOST, **{"known-hosts__accept": Answer(200, {"ok": True})}) as server,
        RunicornRemoteClient(server.url) as client,
    ):
        with pytest.raises(HostKeyConfirmationRequired) as caught:
            client.connect("gpu1", "me")
        caught.value.accept()
        names = ("host", "port", "key_type", "public_key", "fingerprint_sha256")
        assert server.requests[-1].body == {name: HOST_KEY[name] for name in names}


def test_a_callback_is_asked_a_bounded_number_of_times() -> None:
    asked: list[HostKey] = []

    def always(key: HostKey) -> bool:
        asked.append(key)
        return True

    with (
        ScriptedServer(UNKNOWN_HOST, **{"known-hosts__accept": Answer(200, {"ok": True})}) as server,
        RunicornRemoteClient(server.url, on_host_key=always) as client,
        pytest.raises(HostKeyConfirmationRequired),
    ):
        client.connect("gpu1", "me")
    assert len(asked) == 20
    assert [request.path.rpartition("/")[2] for request in server.requests] == ["connect", "accept"] * 20 + [
        "connect"
    ]


def test_a_limit_of_the_server_says_when_to_try_again() -> None:
    busy = {"detail": "Too many.", "code": "TOO_MANY_VIEWERS"}
    error = ask(Answer(503, busy, {"Retry-After": "30"}))
    assert isinstance(error, Busy)
    assert error.retry_after == 30
    error = ask(Answer(503, busy, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}))
    assert isinstance(error, Busy)
    assert error.retry_after is None


def test_all_faults_are_told() -> None:
    faults = [
        {"loc": ["body", "host"], "msg": "Missing.", "type": "missing", "input": SECRET},
        {"loc": ["body"], "msg": "No.", "type": "value_error"},
    ]
    error = ask(Answer(422, {"detail": faults, "code": "VALIDATION_FAILED"}))
    assert isinstance(error, ValidationFailed)
    assert error.errors == faults
    assert str(error) == "The request is not valid: host: Missing.; No."


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b"null", b'"text"', b"\xff"])
def test_an_error_of_somebody_in_between(body: bytes) -> None:
    error = ask(Answer(502, body, {"Content-Type": "text/html"}))
    assert (str(error), error.code, error.detail) == ("The server answered 502 Bad Gateway", "", None)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>Runicorn</html>", {"Content-Type": "text/html"}),
        Answer(200, b"[]"),
        Answer(200, b""),
        Answer(204, b""),
        Answer(302, b"", {"Location": "https://sso.example.com/login"}),
        Answer(307, b"", {"Location": "https://sso.example.com/login"}),
    ],
)
def test_what_answers_is_not_this_api(answer: Answer) -> None:
    assert isinstance(ask(answer), UnexpectedAnswer)


@pytest.mark.parametrize("answer", [Answer(None), Answer(500, {"detail": "No."})])
def test_nothing_is_sent_twice(answer: Answer) -> None:
    with (
        ScriptedServer(answer) as server,
        RunicornRemoteClient(server.url) as client,
        pytest.raises(requests.RequestException),
    ):
        client.stop_viewer(session_id="1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("given", [None, "my own"])
def test_a_start_that_was_cut_off_is_sent_again_with_the_same_key(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_client, "_PAUSE", 0.01)
    with ScriptedServer(Answer(None)) as server, RunicornRemoteClient(server.url) as client:
        with pytest.raises(requests.ConnectionError):
            client.start_viewer(host="gpu1", username="me", remote_root="~", idempotency_key=given)
        first = list(server.requests)
        server.requests.clear()
        server.answer = Answer(500, {"detail": "No."})
        with pytest.raises(ServerError):
            client.start_viewer(host="gpu1", username="me", remote_root="~")
    assert len(first) == 3
    (key,) = {request.headers["Idempotency-Key"] for request in first}
    assert key == '"my own"' if given else len(key) == 38
    assert len({str(request.body) for request in first}) == 1
    (refused,) = server.requests
    assert refused.headers["Idempotency-Key"] != key, "another start, another key"


def test_a_server_that_is_not_there_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "_PAUSE", 600)  # longer than any test
    with ScriptedServer() as server:
        url = server.url
    with RunicornRemoteClient(url) as client, pytest.raises(requests.ConnectionError):
        client.start_viewer(host="gpu1", username="me", remote_root="~")


def test_errors_survive_a_process_pool() -> None:
    error = ask(Answer(404, {"detail": "No.", "code": "SESSION_NOT_FOUND", "hint": "Look."}))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, again.hint) == (type(error), "No.", error.code, "Look.")
    assert (again.status_code, again.response.status_code) == (404, 404)


# --- what goes out


def test_a_token_goes_into_every_request() -> None:
    with (
        ScriptedServer(Answer(200, {"sessions": [], "ok": True})) as server,
        RunicornRemoteClient(server.url, token="a-token\n") as client,
    ):
        client.list_sessions()
        client.stop_viewer(session_id="1")
        assert "a-token" not in repr(client)
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer a-token"] * 2
    assert server.requests[1].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("token", ["two words", "töken", "line\nbreak"])
def test_a_token_that_is_none_is_not_repeated(token: str) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        RunicornRemoteClient(token=token)
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["", "127.0.0.1:23300", "ftp://127.0.0.1", "http+unix://socket", "http://me:pw@gpu1", "http://a/?b"],
)
def test_a_base_url_that_cannot_be_used(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        RunicornRemoteClient(base_url)


@pytest.mark.parametrize(
    ("base_url", "trusted"),
    [
        ("http://127.0.0.1:23300", False),
        ("http://127.8.8.8", False),
        ("http://[::1]:23300", False),
        ("http://localhost:23300/", False),
        ("https://gpu1.example.com/remote", True),
        ("http://10.0.0.1", True),
    ],
)
def test_the_environment_is_trusted_for_other_machines_only(base_url: str, trusted: bool) -> None:
    with RunicornRemoteClient(base_url) as client:
        assert client.session.trust_env is trusted


def test_netrc_is_not_read(private_home: Path) -> None:
    netrc = private_home / ".netrc"
    netrc.write_text(f"machine gpu1.example.com login me password {SECRET}\n")
    netrc.chmod(0o600)
    with RunicornRemoteClient("http://gpu1.example.com", token="a-token") as client:
        prepared = client.session.prepare_request(requests.Request("GET", client.base_url))
        assert prepared.headers["Authorization"] == "Bearer a-token"
    with RunicornRemoteClient("http://gpu1.example.com") as client:
        prepared = client.session.prepare_request(requests.Request("GET", client.base_url))
        assert "Authorization" not in prepared.headers


def test_what_is_not_given_is_not_sent() -> None:
    with ScriptedServer() as server, RunicornRemoteClient(server.url + "/behind/a/proxy/") as client:
        client.connect("gpu1", "me")
        client.connect("gpu1", "me", saved_server_id="srv_1")
        client.connect(None, None, 2222, saved_server_id="srv_1")
        client.start_viewer(host="gpu1", username="me", remote_root="~/x", private_key_path=Path("~/k"))
        client.disconnect(host="gpu1", port=22, username="me", stop_viewers=True)
    bodies = [request.body for request in server.requests]
    assert bodies == [
        {"host": "gpu1", "username": "me", "port": 22, "use_agent": True},
        {"host": "gpu1", "username": "me", "saved_server_id": "srv_1", "use_agent": True},
        {"port": 2222, "saved_server_id": "srv_1", "use_agent": True},
        {
            "host": "gpu1",
            "username": "me",
            "port": 22,
            "use_agent": True,
            "private_key_path": "~/k",
            "remote_root": "~/x",
        },
        {"host": "gpu1", "port": 22, "username": "me", "stop_viewers": True},
    ]
    assert server.requests[0].path == "/behind/a/proxy/api/remote/connect"


def test_a_session_id_stays_one_part_of_the_path() -> None:
    with ScriptedServer() as server, RunicornRemoteClient(server.url) as client:
        client.get_viewer_session(session_id="a/b?c#d e")
    assert server.requests[0].path == "/api/remote/viewer/status/a%2Fb%3Fc%23d%20e"


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [(None, [30.0, 180.0, 300.0]), (7, [7, 7, 7]), ((1, 2), [2, 2, 2])],
)
def test_how_long_is_waited(timeout: Any, expected: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    send = requests.Session.send

    def noting(self: requests.Session, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        waits.append(more["timeout"][1] if isinstance(more["timeout"], tuple) else more["timeout"])
        return send(self, request, **more)

    monkeypatch.setattr(requests.Session, "send", noting)
    with ScriptedServer() as server, RunicornRemoteClient(server.url, timeout=timeout) as client:
        client.health()
        client.connect("gpu1", "me")
        client.start_viewer(host="gpu1", username="me", remote_root="~/x")
    assert waits == expected
