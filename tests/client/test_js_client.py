"""The JavaScript client: Node's own test runner against a live server, and the types if tsc is at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runicorn_remote.client import RunicornRemoteClient
from tests.hosts.server import REPOSITORY, ServerProcess
from tests.hosts.sshd import SshServer

STATIC = REPOSITORY / "runicorn_remote/static"
TESTS = Path(__file__).with_name("runicorn-remote-client.test.mjs")

USES_THE_TYPES = """
import RunicornRemoteClient, { RunicornRemoteError, type HostKey } from 'runicorn-remote-client';

export async function journey(): Promise<string> {
  const client = new RunicornRemoteClient('http://localhost:23300', { token: 't', timeout: 1000 });
  const { connection_id } = await client.connect({ host: 'gpu1', username: 'me', privateKeyPath: '~/k' });
  const envs = await client.listCondaEnvs(connection_id);
  const names: string[] = envs.map(({ name }) => name).concat(envs.envs.map(({ name }) => name));
  const { session } = await client.startViewer({ host: 'gpu1', remoteRoot: '~', condaEnv: names[0] });
  try {
    await client.stopViewer(session.sessionId, { signal: AbortSignal.timeout(10) });
  } catch (error) {
    if (error instanceof RunicornRemoteError) {
      const key: HostKey | undefined = error.hostKey;
      if (key) await client.acceptHostKey(key);
    }
  }
  // @ts-expect-error remoteRoot is required
  await client.startViewer({ host: 'gpu1' });
  return session.url;
}
"""


def node_or_skip() -> str:
    node = shutil.which("node")
    if node is None:
        reason = "node is not installed (Debian: nodejs): the JavaScript client is not tested"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return node


def test_live_server(server: ServerProcess, host: SshServer, client: RunicornRemoteClient) -> None:
    """`client` is there for what it takes back afterwards."""
    environment = {
        **os.environ,
        "BASE_URL": server.url,
        "SSH_HOST": host.host,
        "SSH_PORT": str(host.port),
        "SSH_USER": host.username,
        "SSH_KEY": str(host.client_key),
        "SSH_KEY_TEXT": host.client_key.read_text(),
        "CONDA_ENV": "serves",
    }
    answer = subprocess.run(
        [node_or_skip(), "--test", TESTS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    # A file without tests would pass as well.
    assert "fail 0" in answer.stdout
    assert "Warning" not in answer.stderr


def test_types(tmp_path: Path) -> None:
    """Only where TypeScript is there already; nothing is fetched for it."""
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("tsc is not installed: the types of the JavaScript client are not checked")
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "runicorn-remote-client").symlink_to(STATIC)
    (tmp_path / "uses.mts").write_text(USES_THE_TYPES)
    flags = "--noEmit --strict --target es2022 --module nodenext --lib es2022,dom"
    answer = subprocess.run(
        [compiler, *flags.split(), "uses.mts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
