"""Everything the API takes, filled with what is meant to do harm, against a real server and a real sshd.

What there is to fill comes from /openapi.json, so a new route is in it by itself. No answer is a
fault of ours, none takes long, and nothing of what was sent is run, on either machine.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.test_hostile_input import CANARY, HOSTILE, PIECES
from tests.e2e.user import User
from tests.hosts.server import REPOSITORY, ServerProcess
from tests.hosts.sshd import SshServer
from tests.hosts.stand_in import SERVES, make_stand_in

pytestmark = [pytest.mark.e2e, pytest.mark.sshd]

# One request. A login that sshd refuses takes it two seconds on purpose.
ANSWERS_WITHIN = 30.0
EXAMPLES_PER_FIELD = 6
EXAMPLES_PER_OPERATION = 6
# Where the command of a string would leave its mark, if some directory were in front of it.
RELATIVE = "canary"
STRINGS = [
    *(text for text in HOSTILE if len(text) < 10_000),
    f"$(touch {RELATIVE})",
    f"`touch {RELATIVE}`",
    f";touch {RELATIVE}",
    f"a\ntouch {RELATIVE}\n",
    f"%h%r%n$(touch${{IFS}}{RELATIVE})",
    # Without white space, which no user name may have.
    f"$(>{RELATIVE})",
    f"`>{RELATIVE}`",
    f";>{RELATIVE};",
    f"x|>{RELATIVE}",
    f"x&>{RELATIVE}",
    f"';>{RELATIVE};'",
    f'";>{RELATIVE};"',
    f"-oProxyCommand=touch {RELATIVE}",
    f"via-x$(touch {RELATIVE})",
    "via-%h-%r",
    "~root/.ssh/id_rsa",
    "/proc/self/environ",
    "/dev/zero",
    "@",
    "[::1]:22",
    "127.1",
    "0.0.0.0",
]
texts = st.sampled_from(STRINGS) | st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
# Its commands get what callers say: that must not become a command of its own.
SSH_CONFIG = """\
Match host via-* exec "true %h %n %r %p"
Host via-*
    ProxyCommand false %h %n %r %p
"""

Field = tuple[str, str]  # where ("query", "path", "header", "body"), and its name


@dataclass
class Stage:
    directory: Path
    host: SshServer
    user: User

    @property
    def server(self) -> ServerProcess:
        return self.user.server

    def usual(self) -> dict[str, Any]:
        """A value for whatever an operation may ask for, so that the others get far."""
        return {
            **self.user.credentials,
            "use_agent": False,
            "connection_id": self.user.connection_id,
            "path": "~",
            "remote_root": "~",
            "scan_root": "~",
            "storage_root": "~",
            # The storage is looked at first; then this ends the start.
            "conda_env": "no-such-environment",
            "session_id": "no-such-session",
            "key_type": "ssh-ed25519",
            "public_key": self.host.host_keys["ssh-ed25519"],
            "fingerprint_sha256": "SHA256:x",
        }

    def canaries(self) -> list[Path]:
        places = (CANARY, REPOSITORY / RELATIVE, Path("/") / RELATIVE)
        found = [path for path in places if path.exists()]
        return [
            *found,
            *(path for path in self.directory.rglob("*canary") if path.name in (RELATIVE, CANARY.name)),
        ]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("fuzz")
    home, far = directory / "home", directory / "host"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    (home / ".ssh" / "config").write_text(SSH_CONFIG)
    far.mkdir()
    environment = {
        "HOME": str(home),
        "SSH_AUTH_SOCK": "",
        "XDG_CONFIG_HOME": "",
        # Whatever host is thought of: nobody else's.
        "RUNICORN_REMOTE_ALLOWED_TARGETS": "127.0.0.0/8,::1,via-*",
        "RUNICORN_REMOTE_LOGIN_BACKOFF_MAX": "0",
        "RUNICORN_REMOTE_CONNECT_TIMEOUT": "2",
        "RUNICORN_REMOTE_BANNER_TIMEOUT": "1",
    }
    CANARY.unlink(missing_ok=True)
    with SshServer(far) as host, ServerProcess(directory, environment=environment) as server:
        make_stand_in(host.home / ".virtualenvs" / "serves", SERVES)
        account = {"host": host.host, "port": host.port, "username": host.username}
        user = User(server, {**account, "private_key_path": str(host.client_key)})
        user.accept_host_key()
        user.connect()
        yield Stage(directory, host, user)


@pytest.fixture(autouse=True)
def nothing_is_run(stage: Stage) -> Iterator[None]:
    yield
    assert not stage.canaries()
    stage.user.connect()
    listed = stage.user.get("conda-envs", connection_id=stage.user.connection_id)["envs"]
    assert "serves" in [environment["name"] for environment in listed]


def is_no_surprise(answer: requests.Response, what: str) -> None:
    said = f"{what[:300]} -> {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        body = answer.json()
        assert body["detail"], said
        assert body["code"] != "INTERNAL_ERROR", said
    assert "Traceback" not in answer.text, said


class Operation:
    """One method of one path, with the usual in every field."""

    def __init__(self, stage: Stage, description: Mapping[str, Any], path: str, method: str) -> None:
        self._stage = stage
        self.path = path
        self.method = method
        shared, own = description["paths"][path], description["paths"][path][method]
        usual = stage.usual()
        self._parts: dict[str, dict[str, Any]] = {"query": {}, "path": {}, "header": {}, "body": {}}
        self.fields: list[Field] = []
        for parameter in [*shared.get("parameters", ()), *own.get("parameters", ())]:
            where, name = parameter["in"], parameter["name"]
            self.fields.append((where, name))
            if name in usual:
                self._parts[where][name] = usual[name]
        content = own.get("requestBody", {}).get("content", {}).get("application/json", {})
        self._is_list = content.get("schema", {}).get("type") == "array"
        schema = content.get("schema", {}).get(
            "items" if self._is_list else "allOf", content.get("schema", {})
        )
        if "$ref" in schema:
            schema = description["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for name in schema.get("properties", {}):
            self.fields.append(("body", name))
            if name in usual:
                self._parts["body"][name] = usual[name]

    def send(self, field: Field, value: Any) -> requests.Response:
        parts = {where: dict(values) for where, values in self._parts.items()}
        parts[field[0]][field[1]] = value
        path = self.path
        for name, text in parts["path"].items():
            path = path.replace(f"{{{name}}}", urllib.parse.quote(text, safe="", errors="surrogatepass"))
        query = urllib.parse.urlencode(parts["query"], errors="surrogatepass")
        headers = {name: in_header(text) for name, text in parts["header"].items()}
        if self.method != "get":
            headers["Content-Type"] = "application/json"
        return self._stage.server.request(
            self.method.upper(),
            f"{path}?{query}",
            headers=headers,
            data=json.dumps([parts["body"]] if self._is_list else parts["body"])
            if self.method != "get"
            else None,
            timeout=ANSWERS_WITHIN,
            allow_redirects=False,
        )


def in_header(text: str) -> str:
    """As much of it as a client can send there."""
    return "".join(character for character in text if " " < character < "\x7f")


def operations(stage: Stage) -> Iterator[Operation]:
    description = stage.server.get("/openapi.json").json()
    for path, methods in description["paths"].items():
        for method in methods:
            if method in ("get", "post", "put", "delete", "patch"):
                yield Operation(stage, description, path, method)


def quietly(examples: int) -> Callable[..., Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_harm_in_every_field(stage: Stage) -> None:
    fields = [(operation, field) for operation in operations(stage) for field in operation.fields]
    assert len(fields) > 40
    for operation, field in fields:
        stage.user.connect()
        try_field(operation, field)
        assert not stage.canaries(), (operation.path, field)


def try_field(operation: Operation, field: Field) -> None:
    @quietly(EXAMPLES_PER_FIELD)
    @given(text=texts)
    def try_it(text: str) -> None:
        answer = operation.send(field, text)
        is_no_surprise(answer, f"{operation.method} {operation.path} {field} {text!r}")

    try_it()


def test_saved_servers_full_of_harm(stage: Stage) -> None:
    """What was saved is used by a login later."""
    account = stage.user.credentials
    usual = {"kind": "server", "id": "fuzz", "name": "x", "authMethod": "key", "createdAt": 1, **account}
    usual["privateKeyPath"] = usual.pop("private_key_path")

    @quietly(25)
    @given(
        field=st.sampled_from(["host", "username", "privateKeyPath", "name", "id", "condaEnv"]), text=texts
    )
    def try_it(field: str, text: str) -> None:
        saved = stage.server.post("/api/remote/connections/saved", [{**usual, field: text}])
        is_no_surprise(saved, f"saved {field} {text!r}")
        body = {"saved_server_id": text if field == "id" else "fuzz", "use_agent": False}
        answer = stage.server.post("/api/remote/connect", body, timeout=ANSWERS_WITHIN)
        is_no_surprise(answer, f"login with {field} {text!r}")
        assert not stage.canaries(), (field, text)

    try_it()
    assert stage.server.post("/api/remote/connections/saved", []).status_code == 200


def test_commands_of_ssh_config(stage: Stage) -> None:
    """They get the host and the user that callers name."""
    account = {**stage.user.credentials, "host": "via-x"}
    for text in STRINGS:
        for harm in ({"username": text}, {"host": f"via-{text}"}):
            answer = stage.server.post("/api/remote/connect", {**account, **harm}, timeout=ANSWERS_WITHIN)
            is_no_surprise(answer, str(harm))
            assert not stage.canaries(), harm
    answer = stage.server.post("/api/remote/connect", account)
    assert answer.json()["code"] == "PROXY_COMMAND_FAILED", "a harmless one is run"


def test_values_of_every_kind(stage: Stage) -> None:
    """What the description allows, and beyond."""
    schema = schemathesis.openapi.from_url(f"{stage.server.url}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()

        @quietly(EXAMPLES_PER_OPERATION)
        @given(case=operation.as_strategy())
        def try_it(case: Any) -> None:
            answer = case.call(base_url=stage.server.url, timeout=ANSWERS_WITHIN)
            is_no_surprise(answer, f"{case.method} {case.path} {case.query} {case.body!r}")

        try_it()
