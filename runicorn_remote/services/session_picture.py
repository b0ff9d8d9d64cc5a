"""A session as others see it: the API, those who follow it, and the disk. Pure functions of its fields."""

from __future__ import annotations

from typing import Any

from runicorn_remote.clock import Clock
from runicorn_remote.services.session_fields import (
    CONNECTING,
    RECONNECTING,
    REMEMBERED,
    WATCHED,
    RemoteProcess,
    SessionFields,
)
from runicorn_remote.services.session_store import SessionRecord
from runicorn_remote.services.start_phases import StartPhases
from runicorn_remote.ssh.target import Credentials, Target
from runicorn_remote.ssh.tunnel import Tunnel, TunnelCounters

_NO_TRAFFIC = TunnelCounters(0, 0, 0, 0)


def settled(fields: SessionFields) -> dict[str, Any]:
    """In the API's shape, what stays as it is unless something happens to the session."""
    return {
        "sessionId": fields.id,
        "host": fields.target.host,
        "sshPort": fields.target.port,
        "username": fields.target.username,
        "localPort": fields.local_port,
        "remotePort": fields.remote_port,
        "remoteRoot": fields.remote_root,
        "remotePid": fields.process.pid if fields.process else None,
        "status": fields.status,
        "startedAt": fields.started_at,
        "isActive": fields.status in WATCHED,
        "url": _url(fields),
        "condaEnv": fields.environment,
        "runicornVersion": fields.runicorn_version,
        "node": fields.node,
        "error": fields.error,
        "errorCode": fields.error_code,
        "errorDetail": fields.error_detail,
        "phase": fields.phases.current,
        "phases": fields.phases.listed,
        "reconnects": fields.reconnects,
        "restarts": fields.restarts,
        "lastHealthyAt": fields.last_healthy_at,
    }


def moving(started_at: int, tunnel: Tunnel | None, now: int) -> dict[str, Any]:
    """In the API's shape, what changes by itself. `started_at`, `now`: ms since the epoch."""
    counters = tunnel.counters() if tunnel is not None else _NO_TRAFFIC
    return {
        "uptimeSeconds": max(0.0, round((now - started_at) / 1000, 3)),
        "tunnel": {
            "bytesIn": counters.bytes_in,
            "bytesOut": counters.bytes_out,
            "openConnections": counters.open_connections,
            "totalConnections": counters.total_connections,
        },
    }


def event(fields: SessionFields, now: int) -> dict[str, Any]:
    """What those who follow the session are told of a change at `now` (ms since the epoch)."""
    return {
        "sessionId": fields.id,
        "at": now,
        "status": fields.status,
        "phase": fields.phases.current,
        "phases": fields.phases.listed,
        "url": _url(fields),
        "error": fields.error,
        "errorCode": fields.error_code,
        "errorDetail": fields.error_detail,
    }


def record(
    fields: SessionFields, credentials: Credentials | None, saved_server_id: str | None
) -> SessionRecord | None:
    """What is kept on disk; None if there is nothing to find again. Never a secret."""
    process = fields.process
    started = fields.status in REMEMBERED or (fields.status == CONNECTING and fields.listening)
    if process is None or not started:
        return None
    return SessionRecord(
        session_id=fields.id,
        host=fields.target.host,
        port=fields.target.port,
        username=fields.target.username,
        private_key_path=credentials.private_key_path if credentials else None,
        use_agent=credentials.use_agent if credentials else True,
        saved_server_id=saved_server_id,
        needs_secret=credentials.has_secret if credentials else True,
        local_port=fields.local_port,
        remote_root=fields.remote_root,
        environment=fields.environment,
        runicorn_version=fields.runicorn_version,
        pid=process.pid,
        start_time=process.start_time,
        remote_port=process.port,
        directory=process.directory,
        started_at=fields.started_at,
        reconnects=fields.reconnects,
        restarts=fields.restarts,
        launch_args=fields.launch_args,
        node=fields.node,
    )


def fields_of(kept: SessionRecord, clock: Clock) -> SessionFields:
    """Of a session that an earlier server left: it is `reconnecting`."""
    return SessionFields(
        id=kept.session_id,
        target=Target(kept.host, kept.port, kept.username),
        local_port=kept.local_port,
        started_at=kept.started_at,
        remote_root=kept.remote_root,
        environment=kept.environment,
        wanted_port=kept.remote_port,
        launch_args=kept.launch_args,
        phases=StartPhases(clock, StartPhases.READY),
        status=RECONNECTING,
        error="The server was restarted",
        error_code="SERVER_RESTARTED",
        runicorn_version=kept.runicorn_version,
        node=kept.node,
        process=RemoteProcess(kept.pid, kept.start_time, kept.remote_port, kept.directory),
        reconnects=kept.reconnects,
        restarts=kept.restarts,
    )


def _url(fields: SessionFields) -> str:
    return f"http://localhost:{fields.local_port}"
