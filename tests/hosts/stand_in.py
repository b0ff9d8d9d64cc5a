"""Environments whose `runicorn` is a short program: what the real one does not do on demand."""

from __future__ import annotations

import sys
from pathlib import Path

_PORT = "import sys\nport = int(sys.argv[sys.argv.index('--port') + 1])\n"

# Well from the start, and quick to start.
SERVES = (
    _PORT
    + """
import http.server

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ok", "version": "0.7.2"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
)
# Accepts connections and says nothing.
DEAF = (
    _PORT
    + """
import signal, socket

server = socket.socket()
server.bind(("127.0.0.1", port))
server.listen()
while True:
    signal.pause()
"""
)
SLEEPS = "import signal\nprint('waiting for the disk', flush=True)\nwhile True:\n    signal.pause()\n"
RAISES = "print('reading the index', flush=True)\nraise RuntimeError('the index is broken')\n"


def make_stand_in(prefix: Path, program: str, version: str = "0.7.2") -> Path:
    """A virtual environment at `prefix` whose `python -m runicorn` is `program`."""
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = prefix / f"lib/python{series}/site-packages"
    package, metadata = site / "runicorn", site / f"runicorn-{version}.dist-info"
    for directory in (package, metadata, prefix / "bin"):
        directory.mkdir(parents=True)
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (prefix / "bin" / "python").symlink_to(base)
    (prefix / "pyvenv.cfg").write_text(f"home = {base.parent}\nversion = {series}.0\n")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: runicorn\nVersion: {version}\n")
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program)
    return prefix
