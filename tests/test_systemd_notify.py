"""What systemd is told, on a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runicorn_remote.systemd_notify import notify
from tests.hosts.server import ServerProcess

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs unix sockets")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")


class ServiceManager:
    """The end that systemd has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(30)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def told(self) -> dict[str, str]:
        lines = self._socket.recv(65536).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", pytest.param("abstract", marks=linux_only)])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServiceManager]:
    address = f"@test-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify")
    manager = ServiceManager(address)
    yield manager
    manager.close()


def test_states_arrive_one_a_line(manager: ServiceManager) -> None:
    assert notify(environ={"NOTIFY_SOCKET": manager.address}, READY=1, STATUS="one\nSTOPPING=1")
    assert manager.told() == {"READY": "1", "STATUS": "one STOPPING=1"}


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1234"])
def test_without_a_socket_nothing_is_done(address: str | None, caplog: pytest.LogCaptureFixture) -> None:
    assert not notify(environ={} if address is None else {"NOTIFY_SOCKET": address}, READY=1)
    assert not caplog.records


def test_a_socket_that_is_gone_is_no_reason_to_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not notify(environ={"NOTIFY_SOCKET": str(tmp_path / "none")}, READY=1)
    assert "systemd cannot be notified" in caplog.text


@pytest.mark.e2e
def test_a_server_is_ready_when_it_answers_and_says_that_it_stops(
    manager: ServiceManager, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, environment={"NOTIFY_SOCKET": manager.address}) as server:
        ready = manager.told()
        assert ready["READY"] == "1"
        assert server.url in ready["STATUS"]
        assert server.get("/api/health").status_code == 200
        assert server.stop() == 0
        assert manager.told()["STOPPING"] == "1"


@pytest.mark.e2e
def test_a_server_that_cannot_start_is_never_ready(manager: ServiceManager, tmp_path: Path) -> None:
    (tmp_path / "state").symlink_to(tmp_path)
    server = ServerProcess(tmp_path, environment={"NOTIFY_SOCKET": manager.address})
    with pytest.raises(pytest.fail.Exception, match="status 2"):
        server.start()
    manager._socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.told()
    assert os.path.islink(tmp_path / "state")
