"""Which address is dialled: one that was checked, whatever the next answer of the name service is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from runicorn_remote.errors import TargetForbidden, Unreachable
from runicorn_remote.ssh.dial import dial
from runicorn_remote.ssh.target import Target
from runicorn_remote.ssh.target_rules import TargetRules
from tests.ssh.tunnel_kit import TcpServer, swallow


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """The name service says something else each time, and for addresses the truth. -> names asked for."""
    real, asked = socket.getaddrinfo, []
    left = list(rounds)

    def getaddrinfo(host: str, port: Any, *arguments: Any, **more: Any) -> Any:
        if more.get("flags") == socket.AI_NUMERICHOST:
            return real(host, port, *arguments, **more)
        asked.append(host)
        return [entry for address in left.pop(0) for entry in real(address, port, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with TcpServer(swallow) as server:
        with dial(Target("gpu1", server.port, "me"), TargetRules(denied=["127.0.0.2"]), 5.0) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"
        with pytest.raises(TargetForbidden):
            dial(Target("gpu1", server.port, "me"), TargetRules(denied=["127.0.0.2"]), 5.0)
    assert asked == ["gpu1", "gpu1"], "once a dial"


def test_of_several_addresses_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["::1", "127.0.0.9", "127.0.0.1"])
    rules = TargetRules(denied=["::1", "127.0.0.9"])
    with TcpServer(swallow) as server, dial(Target("gpu1", server.port, "me"), rules, 5.0) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_a_name_that_is_denied_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch)
    for rules in (TargetRules(denied=["gpu*"]), TargetRules(allowed=["other"])):
        with pytest.raises(TargetForbidden):
            dial(Target("gpu1", 22, "me"), rules, 5.0)
    assert not asked


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:127.0.0.1", "127.1", "localhost", "::1%lo"])
def test_this_machine_by_its_other_names(host: str) -> None:
    with TcpServer(swallow) as server, pytest.raises((TargetForbidden, Unreachable)) as caught:
        dial(Target(host, server.port, "me"), TargetRules(denied=["127.0.0.0/8", "::1"]), 5.0)
    # Where there is no IPv6, its addresses may not even be looked up.
    assert isinstance(caught.value, TargetForbidden) or ":" in host
