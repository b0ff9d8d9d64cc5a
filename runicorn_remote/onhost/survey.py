"""Question: what is there to run the viewer with, and where is its data? All in one round trip.

Arguments `{"remote_root": path or None, "environment": name, path or None}`. The answer:
`{"home", "hostname", "platform", "environments": [...], "environment": the one asked for or None,
"runicorn_dir", "configured_root", "storage_root", "storage_root_exists", "free_port", "free_ports"}`.
"""

import os
import socket
import sys
from typing import Any

from runicorn_remote.onhost.common import Failure
from runicorn_remote.onhost.environments import find, find_one
from runicorn_remote.onhost.paths import home_directory, wire_path
from runicorn_remote.onhost.storage_roots import storage_roots

# One for each environment a client may ask the configuration of, before it has to ask again.
_PORTS = 16


def main(arguments: "dict[str, Any]") -> "dict[str, Any]":
    home = home_directory()
    if not wire_path(home):
        raise Failure("HOME_UNUSABLE", "The path of the home directory is not printable UTF-8")
    environments = find(home, arguments.get("remote_root"))
    asked = arguments.get("environment")
    runicorn_dir, configured_root, storage_root = storage_roots(home)
    ports = _free_ports()
    return {
        "home": wire_path(home),
        "hostname": wire_path(socket.gethostname()),
        "platform": sys.platform,
        "environments": environments,
        "environment": find_one(asked, home, found=environments) if asked else None,
        "runicorn_dir": runicorn_dir and wire_path(runicorn_dir),
        "configured_root": configured_root and wire_path(configured_root),
        "storage_root": wire_path(storage_root),
        "storage_root_exists": os.path.isdir(storage_root),
        "free_port": ports[0] if ports else None,
        "free_ports": ports,
    }


def _free_ports() -> "list[int]":
    """Ports that are free on 127.0.0.1 right now; none where nothing can be bound."""
    listeners = []
    try:
        for _ in range(_PORTS):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listeners.append(listener)
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    except OSError:
        return []
    finally:
        for listener in listeners:
            listener.close()
