"""config/nginx.conf in a real nginx, in front of a real server."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.hosts.server import ServerProcess, fetch
from tests.hosts.waiting import until

pytestmark = pytest.mark.e2e

CONFIG = Path(__file__).resolve().parents[2] / "config/nginx.conf"
NAME = "remote.example.org"
TOKEN = "0123456789abcdef" * 2
WORKER = "www-data"
PERSON = {"Authorization": "Basic " + base64.b64encode(b"me:correct horse").decode()}


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = f"{name} is not installed: config/nginx.conf is not tested"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Nginx:
    """One nginx with the site of config/nginx.conf, its paths and ports replaced."""

    def __init__(self, directory: Path, server_port: int) -> None:
        self._directory = directory
        self._nginx = program("nginx")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        certificate = directory / "certificate.pem"
        request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x"]
        subprocess.run(
            [program("openssl"), *request, "-keyout", directory / "key.pem", "-out", certificate],
            check=True,
            capture_output=True,
            timeout=60,
        )
        (directory / "htpasswd").write_text("me:{PLAIN}correct horse\n")
        (directory / "htpasswd").chmod(0o644)
        (directory / "token").write_text(f'proxy_set_header Authorization "Bearer {TOKEN}";\n')
        site = CONFIG.read_text()
        for old, new in {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            f"/etc/ssl/certs/{NAME}.pem": str(certificate),
            f"/etc/ssl/private/{NAME}.key": str(directory / "key.pem"),
            "/etc/nginx/runicorn-remote.htpasswd": str(directory / "htpasswd"),
            "/etc/nginx/runicorn-remote.token": str(directory / "token"),
            "127.0.0.1:23300": f"127.0.0.1:{server_port}",
        }.items():
            assert old in site
            site = site.replace(old, new)
        (directory / "site.conf").write_text(site)
        user = f"user {WORKER};" if os.geteuid() == 0 else ""
        paths = "".join(
            f"{kind}_temp_path {directory}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(
            f"{user} daemon off; pid {directory}/pid; error_log {directory}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; {paths} include {directory}/site.conf; }}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`."""
        return subprocess.run(self._command("-t"), capture_output=True, text=True, timeout=30, check=False)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command())
        until(self._listens, 20, "nginx listens")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _command(self, *more: str) -> list[str]:
        directory = self._directory
        errors = str(directory / "error.log")
        return [self._nginx, "-p", str(directory), "-e", errors, "-c", str(directory / "nginx.conf"), *more]

    def ask(self, path: str, method: str = "GET", **headers: str) -> requests.Response:
        url = f"https://127.0.0.1:{self.port}{path}"
        sent = {"Host": NAME, **PERSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return fetch(url, method=method, headers=sent, verify=False)


def settings_of_the_page() -> list[str]:
    """What the head of config/nginx.conf says to set, but for the token's path."""
    found = re.findall(r"^#   ([a-z_]+ = \S.*?)(?:  .*)?$", CONFIG.read_text(), re.M)
    assert [line.split(" = ")[0] for line in found] == [
        "allowed_users",
        "allowed_hosts",
        "allowed_origins",
        "token_file",
    ]
    return found


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where nginx's workers may go, who are another user than we."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    program("nginx")
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    lines = settings_of_the_page()
    if os.geteuid() != 0:  # nginx is ours, and the user may not be there
        lines = lines[1:]
    settings = tmp_path / "settings.toml"
    settings.write_text("\n".join(lines).replace("~/.config/runicorn/token", str(token)))
    with ServerProcess(tmp_path, flags=("--config", str(settings))) as server:
        yield server


@pytest.fixture
def nginx(directory: Path, server: ServerProcess) -> Iterator[Nginx]:
    nginx = Nginx(directory, server.port)
    answer = nginx.check()
    assert answer.returncode == 0, answer.stderr
    assert "warn" not in answer.stderr
    nginx.start()
    yield nginx
    nginx.stop()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_who_knows_the_password_gets_through_and_nobody_else(nginx: Nginx, server: ServerProcess) -> None:
    assert server.get("/api/remote/status").status_code == 401, "the token is nginx's"
    assert nginx.ask("/api/remote/status").status_code == 200
    assert nginx.ask("/api/remote/status", Authorization="Basic bWU6d3Jvbmc=").status_code == 401
    assert nginx.ask("/api/remote/status", Host="evil.example").json()["code"] == "HOST_NOT_ALLOWED"
    own = nginx.ask("/api/remote/connections/saved", Origin=f"https://{NAME}", Sec_Fetch_Site="same-origin")
    assert own.status_code == 200
    foreign = nginx.ask("/api/remote/status", Origin="https://evil.example", Sec_Fetch_Site="cross-site")
    assert foreign.json()["code"] == "ORIGIN_NOT_ALLOWED"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="nginx is another user only with root"
)
def test_a_server_that_does_not_know_nginx_refuses_it(directory: Path, tmp_path: Path) -> None:
    program("nginx")
    with ServerProcess(tmp_path, environment={"RUNICORN_REMOTE_ALLOWED_HOSTS": NAME}) as server:
        nginx = Nginx(directory, server.port)
        nginx.start()
        try:
            assert nginx.ask("/api/remote/status").json()["code"] == "USER_NOT_ALLOWED"
        finally:
            nginx.stop()
