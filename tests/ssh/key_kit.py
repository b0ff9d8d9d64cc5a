"""What tests of logins are made of: keys, an agent's content, and what a login came to."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from runicorn_remote.errors import AuthenticationFailed
from runicorn_remote.ssh.connect import Connector
from runicorn_remote.ssh.target import Credentials, Target
from tests.hosts.sshd import SshServer


def new_key(path: Path, passphrase: str = "", kind: str = "ed25519", bits: int | None = None) -> Path:
    size = [] if bits is None else ["-b", str(bits)]
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, *size, "-N", passphrase, "-a", "2", "-f", path],
        check=True,
        timeout=30,
    )
    return path


def public(path: Path) -> str:
    return path.with_name(path.name + ".pub").read_text()


def log_in(connector: Connector, target: Target, credentials: Credentials) -> None:
    connector(target, credentials).close()


def fails(connector: Connector, target: Target, credentials: Credentials) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        connector(target, credentials)
    return str(caught.value)


def offered(server: SshServer, before: str) -> list[str]:
    """The fingerprints of the keys a login showed to sshd, refused and accepted ones."""
    return re.findall(r"(?:Failed|Accepted|Postponed) publickey .*(SHA256:\S+)", server.log()[len(before) :])


def add_to_agent(agent: str, *paths: Path, passphrase: str = "") -> None:
    environ = {**os.environ, "SSH_AUTH_SOCK": agent}
    if passphrase:
        helper = paths[0].parent / "askpass"
        helper.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        helper.chmod(0o700)
        environ.update(SSH_ASKPASS=str(helper), SSH_ASKPASS_REQUIRE="force", DISPLAY=":0")
    subprocess.run(
        ["ssh-add", "-q", *paths],
        check=True,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
    )
