"""Examples for the description of the API: one host, one key, one viewer throughout."""

from __future__ import annotations

from typing import Any

_ACCOUNT = {"host": "gpu1", "port": 22, "username": "me"}
_KEY = {
    "host": "gpu1",
    "port": 22,
    "key_type": "ssh-ed25519",
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOUV+KWv6+XhCnI0y/rC6oO78iXyl5xSUc0/Vt+ctr31",
    "fingerprint_sha256": "SHA256:lfaFpu2PC2/bwtfydZC3+llK4jPXS/HTF/IiIS5TOLQ",
}

CONNECT: dict[str, Any] = {**_ACCOUNT, "private_key_path": "~/.ssh/id_ed25519"}
CONNECTED = {"ok": True, "connection_id": "me@gpu1:22", **_ACCOUNT, "connected": True}
DISCONNECT = {**_ACCOUNT, "stop_viewers": False}
ACCEPT = _KEY
REMOVE = {name: _KEY[name] for name in ("host", "port", "key_type")}
START = {**CONNECT, "remote_root": "~/runicorn_data", "conda_env": "train"}
SESSION = {
    "sessionId": "5f3a9c0d1e2b4a68",
    "host": "gpu1",
    "sshPort": 22,
    "username": "me",
    "localPort": 41009,
    "remotePort": 38701,
    "remoteRoot": "/home/me/runicorn_data",
    "remotePid": 9987,
    "status": "running",
    "startedAt": 1767225600000,
    "uptimeSeconds": 12.5,
    "isActive": True,
    "url": "http://localhost:41009",
    "condaEnv": "train",
    "runicornVersion": "0.7.2",
    "node": None,
    "error": None,
    "errorCode": None,
    "errorDetail": None,
    "phase": "ready",
    "phases": [
        {"name": "connecting", "startedAt": 1767225600000, "seconds": 0.41},
        {"name": "preparing", "startedAt": 1767225600410, "seconds": 0.52},
        {"name": "launching", "startedAt": 1767225600930, "seconds": 0.02},
        {"name": "waiting", "startedAt": 1767225600950, "seconds": 1.83},
        {"name": "ready", "startedAt": 1767225602780, "seconds": None},
    ],
    "tunnel": {"bytesIn": 48213, "bytesOut": 3120, "openConnections": 2, "totalConnections": 9},
    "reconnects": 0,
    "restarts": 0,
    "lastHealthyAt": 1767225612000,
}
STARTED = {"ok": True, "session": SESSION, "message": "Remote Viewer ready at http://localhost:41009"}
STARTING = {
    "ok": True,
    "session": {
        **SESSION,
        "remotePort": None,
        "remotePid": None,
        "status": "connecting",
        "isActive": False,
        "runicornVersion": None,
        "phase": "connecting",
        "phases": [{"name": "connecting", "startedAt": 1767225600000, "seconds": None}],
        "tunnel": {"bytesIn": 0, "bytesOut": 0, "openConnections": 0, "totalConnections": 0},
        "lastHealthyAt": None,
    },
    "message": "Remote Viewer is starting",
}
SESSIONS = {"sessions": [SESSION]}
LOG = {
    "sessionId": SESSION["sessionId"],
    "lines": ["INFO: Started server process [9987]", "INFO: Uvicorn running on http://127.0.0.1:38701"],
    "at": 1767225613000,
    "live": True,
}
EVENTS = """id: 9c1f03ab-6
event: session
data: {"sessionId": "5f3a9c0d1e2b4a68", "at": 1767225602780, "status": "running", "phase": "ready"}
"""
STOP = {"session_id": SESSION["sessionId"]}
INSTALL = {"connection_id": "me@gpu1:22", "version": "0.7.2"}
INSTALL_EVENTS = """id: 5b7713fe-9
event: install
data: {"installId": "86b1c8d3a0f24e51", "phase": "installing", "lines": ["Collecting httpx"]}
"""
ENVIRONMENTS = {
    "ok": True,
    "envs": [
        {
            "name": "train",
            "type": "conda",
            "python_version": "Python 3.11.7",
            "path": "/home/me/miniforge3/envs/train/bin/python",
            "is_default": True,
            "pythonVersion": "Python 3.11.7",
            "isDefault": True,
        }
    ],
}
SAVED = [
    {
        "kind": "server",
        "id": "srv_me_gpu1_22",
        "name": "gpu1",
        **_ACCOUNT,
        "authMethod": "key",
        "privateKeyPath": "~/.ssh/id_ed25519",
        "createdAt": 1767225600000,
    }
]
