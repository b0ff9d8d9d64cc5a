"""Those who can reach our ports and are not to use them: pages through our tunnels, other users."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.browser import chromium
from tests.e2e.user import RemoteAccount, User
from tests.hosts.server import ServerProcess

pytestmark = pytest.mark.e2e

NOBODY = 65534

# A viewer of a host that somebody broke into: its page tries all a page can against the API.
HOSTILE_VIEWER = r'''
import http.server, sys
port = int(sys.argv[sys.argv.index('--port') + 1])
PAGE = b"""<!doctype html><title>waiting</title><iframe name="target"></iframe><script>
const [api, session] = location.hash.slice(1).split('|');
const body = JSON.stringify({session_id: session});
const tries = {
  read: () => fetch(api + '/viewer/sessions').then(r => r.json()),
  blind_read: () => fetch(api + '/viewer/sessions', {mode: 'no-cors'}).then(r => {
    if (r.type === 'opaque') throw new Error('opaque') }),
  json: () => fetch(api + '/viewer/stop',
    {method: 'POST', headers: {'Content-Type': 'application/json'}, body}),
  text: () => fetch(api + '/viewer/stop', {method: 'POST', mode: 'no-cors', body}).then(r => {
    if (r.type === 'opaque') throw new Error('opaque') }),
  script: () => new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = api + '/viewer/sessions'; script.onload = resolve; script.onerror = reject;
    document.head.append(script) }),
};
const form = Object.assign(document.createElement('form'), {
  method: 'POST', action: api + '/viewer/stop', enctype: 'text/plain', target: 'target'});
form.append(Object.assign(document.createElement('input'),
  {name: body.slice(0, -1) + ', "x":"', value: '"}'}));
document.body.append(form); form.submit();
Promise.all(Object.entries(tries).map(([name, attempt]) => attempt().then(() => name, () => '')))
  .then(done => { document.title = 'done:' + done.join('') });
</script>"""
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ok"}' if self.path == '/api/health' else PAGE
        self.send_response(200)
        self.send_header('Content-Type', 'application/json' if body[:1] == b'{' else 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler).serve_forever()
'''


def test_a_page_through_our_own_tunnel_can_neither_read_nor_do_anything(
    user: User, account: RemoteAccount, server: ServerProcess, tmp_path: Path
) -> None:
    account.add_stand_in("hostile", HOSTILE_VIEWER)
    session = user.start_viewer("hostile")
    with chromium(tmp_path) as browser:
        page = browser.new_page()
        api = f"http://localhost:{server.port}/api/remote"
        page.goto(f"{session['url']}/#{api}|{session['sessionId']}")
        page.wait_for_function("document.title.startsWith('done:')", timeout=30_000)
        assert page.title() == "done:"
    (still_there,) = user.viewers()
    assert (still_there["sessionId"], still_there["status"]) == (session["sessionId"], "running")
    assert "viewer/stop -> 403" in server.output()
    user.stop_viewer(session)


def as_nobody(program: str) -> str:
    """Run Python code as another user of this machine."""
    whole = f"import os, socket; os.setuid({NOBODY}); {program}"
    return subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, timeout=30, check=True
    ).stdout


def request_to(family: socket.AddressFamily, host: str, port: int, path: str) -> str:
    """A request without any import that another user's Python may not be able to make."""
    return (
        f"s = socket.socket({int(family)}); s.settimeout(10); s.connect(({host!r}, {port}))\n"
        f"try:\n"
        f"    s.sendall(b'GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        f"    print(b''.join(iter(lambda: s.recv(4096), b'')).decode())\n"
        f"except ConnectionError: print('reset')"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="/proc/net/tcp is Linux's")
def test_another_user_of_the_machine_reaches_neither_the_api_nor_a_tunnel(
    user: User, account: RemoteAccount, server: ServerProcess
) -> None:
    account.add_stand_in("hostile", HOSTILE_VIEWER)
    session = user.start_viewer("hostile")
    tunnel = session["localPort"]
    refused = as_nobody(request_to(socket.AF_INET, "127.0.0.1", server.port, "/api/remote/status"))
    assert "403 FORBIDDEN" in refused
    assert "USER_NOT_ALLOWED" in refused
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        answer = as_nobody(request_to(family, host, tunnel, "/api/health"))
        assert "200" not in answer, answer
    user.stop_viewer(session)
