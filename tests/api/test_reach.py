"""What the settings leave of hosts and key files, as a user sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from runicorn_remote.app import create_app
from runicorn_remote.services import Services
from runicorn_remote.settings import Settings, SettingsError
from tests.api.conftest import trust
from tests.api.user import User, outcome
from tests.hosts.sshd import SshServer

pytestmark = pytest.mark.sshd


@pytest.fixture
def user_with(settings: Settings, sshd: SshServer) -> Iterator[Callable[..., User]]:
    """A user of a server with other settings."""
    made: list[Services] = []

    def make(**changes: Any) -> User:
        made.append(Services(replace(settings, **changes)))
        path = made[-1].known_hosts.file.path
        if not path.exists():
            trust(path, sshd)
        return User(create_app(services=made[-1]).test_client(), sshd)

    yield make
    for services in made:
        services.close()


@pytest.mark.parametrize(
    "rules",
    [
        {"denied_targets": ("127.0.0.0/8",)},
        {"denied_targets": ("127.0.0.1",), "allowed_targets": ("*",)},
        {"denied_targets": ("*",)},
        {"allowed_targets": ("gpu*", "10.0.0.0/8")},
    ],
)
def test_a_host_that_is_out_of_reach(user_with: Callable[..., User], rules: dict[str, Any]) -> None:
    user = user_with(**rules)
    before = user.server.log()
    for answer in (user.connect(), user.connect(host="localhost"), user.start()):
        assert outcome(answer) == (403, "TARGET_FORBIDDEN")
        assert "denied_targets" in answer.get_json()["hint"]
    assert user.server.log() == before


def test_a_host_within_reach(user_with: Callable[..., User]) -> None:
    user = user_with(allowed_targets=("127.0.0.0/8",), denied_targets=("10.0.0.0/8", "gpu*"))
    assert user.connect().status_code == 200


def test_a_rule_that_cannot_be_used_stops_the_start(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"allowed_targets, denied_targets: '10\.\*' is not"):
        Services(replace(settings, denied_targets=("10.*",)))


def test_key_files_of_saved_servers_and_of_requests(user_with: Callable[..., User]) -> None:
    user = user_with(key_roots=("~",))  # the key is elsewhere
    saved = {
        "kind": "server",
        "id": "gpu",
        "name": "GPU",
        "authMethod": "key",
        "createdAt": 1,
        **user.account(),
    }
    key = str(user.server.client_key)
    assert user.post("connections/saved", [{**saved, "privateKeyPath": key}]).status_code == 200
    by_request, by_saved = user.connect(), user.post("connect", {"saved_server_id": "gpu"})
    missing = user.post("connect", user.account(private_key_path=f"{key}-missing"))
    assert outcome(by_request) == (400, "KEY_UNUSABLE")
    assert by_request.data == by_saved.data == missing.data


def test_without_roots_there_are_no_key_files(user_with: Callable[..., User]) -> None:
    user = user_with(key_roots=())
    assert outcome(user.connect()) == (400, "KEY_FILES_OFF")
    text = user.server.client_key.read_text()
    assert user.post("connect", user.account(private_key=text)).status_code == 200
