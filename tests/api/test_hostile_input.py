"""Strings meant to do harm, in every field that reaches a shell, a path, a file or a log.

The answer is a 4xx, or a plain success where the string is merely an odd name; nothing in it is ever
run, here or on the host, and the connection works afterwards.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.api.user import User

pytestmark = pytest.mark.sshd

CANARY = Path("/tmp") / "runicorn-remote-canary"  # one name for here and the host: they are one machine
TOUCH = f"touch {CANARY}"
HOSTILE = [
    f"$({TOUCH})",
    f"`{TOUCH}`",
    f"; {TOUCH} #",
    f"x && {TOUCH}",
    f"| {TOUCH}",
    f"x\n{TOUCH}\n",
    f"x\r\n{TOUCH}\r\n",
    f"' ; {TOUCH} ; '",
    f'" ; {TOUCH} ; "',
    f"\\' ; {TOUCH} ; \\'",
    f"${{IFS}}$({TOUCH})",
    f"-oProxyCommand={TOUCH}",
    "-",
    "--help",
    "'",
    '"',
    "\\",
    "a\0b",
    "\ud800",
    "a\udfff.txt",
    "../../../../../../etc/passwd",
    "..",
    "~no-such-user/x",
    "*",
    "%s%n%x{0}{self}",
    "__ARGUMENTS__",
    "__PROGRAM__",
    '@@token {"ok": true}',
    "\x1b]0;title\x07\x1b[31m",
    "\u202eexe.txt",
    "\U0001f984 é \u0301",
    " ",
    "\t",
    "None",
    "x" * 1000,
    "x" * 100_000,
    "a/" * 50_000,
    "\n" * 100_000,
]
PIECES = [
    "'",
    '"',
    "`",
    "$",
    "(",
    ")",
    ";",
    "\n",
    "\r",
    "\\",
    "-",
    "/",
    "..",
    "~",
    "\0",
    "\ud800",
    "é",
    TOUCH,
]

Ask = Callable[[User, str], TestResponse]


@pytest.fixture(autouse=True)
def canary() -> Iterator[None]:
    CANARY.unlink(missing_ok=True)
    yield
    lives = CANARY.exists()
    CANARY.unlink(missing_ok=True)
    assert not lives, "something was run"


@pytest.fixture(autouse=True)
def still_working(connected: User) -> Iterator[None]:
    yield
    answer = connected.ask("fs/exists", path="/")
    assert answer.get_json() == {"path": "/", "exists": True, "is_dir": True}


def check(answer: TestResponse, sent: str, *codes: str) -> None:
    """`codes`: those of a 5xx that is the right answer, as for a login that fails."""
    if answer.status_code == 308:  # slashes next to each other in the URL become one
        return
    body = json.loads(answer.data)
    if answer.status_code >= 300:
        assert body["detail"], body
        assert body["code"] != "INTERNAL_ERROR"
    assert answer.status_code < 500 or body["code"] in codes, (sent[:100], body)
    if answer.status_code == 422:
        assert len(sent) < 10 or sent not in answer.text
    assert "Traceback" not in answer.text
    assert len(answer.data) < 50_000


def in_query(user: User, route: str, **query: str) -> TestResponse:
    """A GET whose lone surrogates go out as their bytes."""
    text = urllib.parse.urlencode(query, errors="surrogatepass")
    return user.client.get(f"/api/remote/{route}?{text}")


def about_connection(route: str, field: str) -> Ask:
    def ask(user: User, text: str) -> TestResponse:
        query = {"connection_id": user.connection_id, "path": "/", field: text}
        return in_query(user, route, **query)

    return ask


def in_body(route: str, field: str, body: Callable[[User], dict[str, Any]]) -> Ask:
    return lambda user, text: user.post(route, {**body(user), field: text})


def start(user: User) -> dict[str, Any]:
    # The storage is looked at first: where that is fine, the environment ends the start.
    return user.credentials(remote_root="~/data", conda_env="no-such-environment")


def host_key(user: User) -> dict[str, Any]:
    return {
        "host": "gpu1",
        "port": 22,
        "key_type": "ssh-ed25519",
        "public_key": user.server.host_keys["ssh-ed25519"],
        "fingerprint_sha256": "SHA256:x",
    }


def saved(user: User) -> dict[str, Any]:
    return user.account(saved_server_id="nope")


def session_in_the_path(user: User, text: str) -> TestResponse:
    name = urllib.parse.quote(text, safe="", errors="surrogatepass")
    return user.client.get(f"/api/remote/viewer/status/{name}")


FIELDS: dict[str, Ask] = {
    "remote_root": in_body("viewer/start", "remote_root", start),
    "conda_env of a start": in_body("viewer/start", "conda_env", start),
    "conda_env of config": about_connection("config", "conda_env"),
    "conda_env of storage-candidates": about_connection("storage-candidates", "conda_env"),
    "scan_root": about_connection("storage-candidates", "scan_root"),
    "max_depth": about_connection("storage-candidates", "max_depth"),
    "path of list": about_connection("fs/list", "path"),
    "path of exists": about_connection("fs/exists", "path"),
    "connection_id of list": about_connection("fs/list", "connection_id"),
    "connection_id of conda-envs": about_connection("conda-envs", "connection_id"),
    "session_id of stop": in_body("viewer/stop", "session_id", lambda user: {}),
    "session_id of status": session_in_the_path,
    "host of disconnect": in_body("disconnect", "host", User.account),
    "username of disconnect": in_body("disconnect", "username", User.account),
    "port of disconnect": in_body("disconnect", "port", User.account),
    "local_port": in_body("viewer/start", "local_port", start),
    "remote_port": in_body("viewer/start", "remote_port", start),
    "saved_server_id": in_body("connect", "saved_server_id", saved),
    "private_key": in_body("connect", "private_key", User.account),
    "private_key_path": in_body("connect", "private_key_path", User.account),
    **{
        f"{field} of {route}": in_body(route, field, host_key)
        for route in ("known-hosts/accept", "known-hosts/remove")
        for field in ("host", "port", "key_type", "public_key", "fingerprint_sha256")
    },
}
# Those that go on to the host, to a file, or to a parser of ours.
MIXED = [
    "remote_root",
    "conda_env of a start",
    "scan_root",
    "path of list",
    "path of exists",
    "connection_id of list",
    "session_id of status",
    "username of disconnect",
    "private_key",
    "private_key_path",
    "host of known-hosts/accept",
    "public_key of known-hosts/accept",
]
# Where the string goes out in a login, it may fail as logins do.
LOGIN_FIELDS: dict[str, Ask] = {
    field: in_body("connect", field, User.credentials)
    for field in ("host", "username", "password", "passphrase")
}
LOGIN_CODES = ("AUTH_FAILED", "LOGIN_FAILED", "HOST_NOT_FOUND", "HANDSHAKE_CLOSED", "NO_ROUTE")


@pytest.mark.parametrize("field", FIELDS)
def test_in_every_field(connected: User, field: str) -> None:
    # These go the same way as the conda_env of a start.
    seldom = field in ("conda_env of config", "conda_env of storage-candidates")
    for text in HOSTILE[:: 5 if seldom else 1]:
        check(FIELDS[field](connected, text), text)


@pytest.mark.parametrize("field", LOGIN_FIELDS)
def test_in_every_field_of_a_login(connected: User, field: str) -> None:
    # Each of these is a login of its own, whose failure sshd answers late on purpose.
    for text in HOSTILE if field in ("host", "username") else HOSTILE[::4]:
        check(LOGIN_FIELDS[field](connected, text), text, *LOGIN_CODES)
    sessions = connected.get("sessions").get_json()["sessions"]
    assert [each["connected"] for each in sessions] == [True], "the login that was there is untouched"


@pytest.mark.parametrize("field", MIXED)
@settings(
    max_examples=10,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join))
def test_mixtures(connected: User, field: str, text: str) -> None:
    check(FIELDS[field](connected, text), text)


@pytest.mark.parametrize(
    "name", [f"$({TOUCH.replace('/', '')})", "`id`", "'", '"; exit 1; "', "a b", "-", "a\nb", "é \u202e", "*"]
)
def test_odd_names_are_names(connected: User, tmp_path: Path, name: str) -> None:
    """A directory may have such a name; all that looks at it gets through to it, as does the viewer."""
    directory = tmp_path / name
    directory.mkdir()
    path = str(directory)
    assert connected.ask("fs/exists", path=path).get_json() == {"path": path, "exists": True, "is_dir": True}
    assert connected.ask("fs/list", path=path).get_json() == {"path": path, "items": []}
    names = [item["name"] for item in connected.ask("fs/list", path=str(tmp_path)).get_json()["items"]]
    assert name in names
    session = connected.started(remote_root=path, conda_env="serves")
    command = Path(f"/proc/{session['remotePid']}/cmdline")
    if command.exists():
        assert path.encode() in command.read_bytes().split(b"\0")
    assert connected.stop(session["sessionId"]).status_code == 200
