"""A host that asks at the login, as a script, as JavaScript and as a person at a terminal meet it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runicorn_remote.client import Challenge, InteractiveAuthRequired, RunicornRemoteClient
from tests.cli.terminal import Terminal
from tests.hosts.second_factor import PASSWORD_ASKED, SecondFactorHost
from tests.hosts.server import REPOSITORY, ServerProcess
from tests.hosts.stand_in import SERVES, make_stand_in

pytestmark = pytest.mark.e2e


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[SecondFactorHost]:
    home = tmp_path / "host"
    home.mkdir()
    make_stand_in(home / ".virtualenvs" / "serves", SERVES)
    with SecondFactorHost(home) as host:
        yield host


@pytest.fixture
def account(asking: SecondFactorHost, client: RunicornRemoteClient) -> dict[str, Any]:
    """With the key's text; the host's own key is accepted when it is asked about."""
    return {
        "host": asking.host,
        "port": asking.port,
        "username": asking.username,
        "private_key": asking.client_key_text,
        "on_host_key": lambda key: True,
    }


def test_answers_of_a_callback(
    client: RunicornRemoteClient, account: dict[str, Any], asking: SecondFactorHost
) -> None:
    seen: list[Challenge] = []

    def answer(challenge: Challenge) -> list[str]:
        seen.append(challenge)
        return [asking.code]

    started = client.start_viewer(**account, remote_root="~/storage", conda_env="serves", on_challenge=answer)
    assert started["session"]["status"] == "running"
    (challenge,) = seen
    assert [(prompt.text, prompt.echo) for prompt in challenge.prompts] == [("Verification code: ", False)]
    assert (challenge.name, challenge.host, challenge.port) == ("Two steps", asking.host, asking.port)
    assert client.connect(**account)["connected"] is True
    assert (len(seen), asking.logins) == (1, 1)


def test_nobody_to_ask(
    client: RunicornRemoteClient, account: dict[str, Any], asking: SecondFactorHost
) -> None:
    with pytest.raises(InteractiveAuthRequired) as caught:
        client.connect(**account)
    assert caught.value.challenge.prompts[0].text == "Verification code: "
    assert "Verification code:" in str(caught.value)
    with pytest.raises(InteractiveAuthRequired):
        client.connect(**account, on_challenge=lambda challenge: None)
    with RunicornRemoteClient(client.base_url, on_challenge=lambda challenge: [asking.code]) as answering:
        assert answering.connect(**account)["connected"] is True


def test_a_start_in_the_background_carries_the_question(
    client: RunicornRemoteClient, account: dict[str, Any], asking: SecondFactorHost
) -> None:
    with pytest.raises(InteractiveAuthRequired):  # so that its key is accepted
        client.connect(**account)
    options = {**account, "remote_root": "~/storage", "conda_env": "serves"}
    started = client.start_viewer(**options, wait=False)
    session = client.wait_until(started["session"]["sessionId"], ["error"], timeout=20)
    assert session["errorCode"] == "INTERACTIVE_AUTH_REQUIRED"
    challenge = Challenge.from_dict(session["errorDetail"])
    assert client.connect(**account, on_challenge=lambda question: [asking.code])["connected"] is True
    assert challenge.challenge_id
    assert asking.questions == 1, "it is the same question"
    started = client.start_viewer(**options, wait=False)
    client.wait_until(started["session"]["sessionId"], ["running"], timeout=20)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_javascript(
    server: ServerProcess, client: RunicornRemoteClient, account: dict[str, Any], asking: SecondFactorHost
) -> None:
    with pytest.raises(InteractiveAuthRequired):
        client.connect(**account)
    program = f"""
    import {{ RunicornRemoteClient }} from '{REPOSITORY}/runicorn_remote/static/runicorn-remote-client.js';
    const client = new RunicornRemoteClient({json.dumps(server.url)});
    const account = {json.dumps({name: account[name] for name in ("host", "port", "username")})};
    account.privateKey = {json.dumps(account["private_key"])};
    try {{ await client.connect(account); }} catch (error) {{
      const {{ challenge }} = error;
      if (challenge?.prompts[0].prompt !== 'Verification code: ') throw error;
      const answer = {{ challengeId: challenge.challenge_id, responses: ['{asking.code}'] }};
      console.log((await client.connect({{ ...account, ...answer }})).connected);
    }}
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("true\n", "")


def test_a_person_at_a_terminal(
    server: ServerProcess, client: RunicornRemoteClient, asking: SecondFactorHost, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(asking.client_key_text)
    target = f"{asking.username}@{asking.host}:{asking.port}"
    asking.prompts = [("Code\x1b[2J: ", False), ("Reason: ", True)]
    arguments = ("start", target, "-i", str(key), "--root", "~/storage", "--env", "serves")
    with Terminal("--url", server.url, *arguments) as terminal:
        terminal.expect("yes/no")
        terminal.type("yes")
        terminal.expect(f"{target} asks:")
        terminal.expect("Two steps")
        terminal.expect("Open your app.")
        terminal.expect("Code[2J: ")
        terminal.type(asking.code)
        terminal.expect("Reason: ")
        terminal.type("maintenance")
        assert terminal.wait() == 0
    assert asking.code not in terminal.text
    assert asking.answers == [[asking.code, "maintenance"]]
    assert asking.logins == 1


def test_a_person_without_key_or_password(
    server: ServerProcess, client: RunicornRemoteClient, tmp_path: Path
) -> None:
    home = tmp_path / "plain"
    home.mkdir()
    with SecondFactorHost(home, first=PASSWORD_ASKED) as host:
        target = f"{host.username}@{host.host}:{host.port}"
        with Terminal("--url", server.url, "connect", target, "--no-agent") as terminal:
            terminal.expect("yes/no")
            terminal.type("yes")
            terminal.expect("Password: ")
            terminal.type(host.password)
            terminal.expect(f"Connected to {target}")
            assert terminal.wait() == 0


def test_a_script_is_told_what_to_do(
    server: ServerProcess, client: RunicornRemoteClient, account: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InteractiveAuthRequired):
        client.connect(**account)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(account["private_key"])
    target = f"{account['username']}@{account['host']}:{account['port']}"
    command = [sys.executable, "-m", "runicorn_remote", "--url", server.url, "connect", target]
    done = subprocess.run(
        [*command, "-i", str(key), "--json"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 5, done.stderr
    assert json.loads(done.stdout)["code"] == "INTERACTIVE_AUTH_REQUIRED"
