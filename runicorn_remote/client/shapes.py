"""The API's answers as types. At run time they are plain dicts; more fields may be added to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class Ok(TypedDict):
    ok: bool
    message: str


class Saved(Ok, total=False):
    warning: str  # only if the server stores no secrets, and was given some


class Connected(TypedDict):
    ok: bool
    connection_id: str  # user@host:port
    host: str
    port: int
    username: str
    connected: bool


class Connection(TypedDict):
    key: str  # the connection_id
    host: str
    port: int
    username: str
    connected: bool


class KnownHost(TypedDict):
    host: str
    port: int
    known_hosts_host: str  # the name as it stands in the file
    key_type: str
    key_base64: str
    fingerprint_sha256: str


class Removed(TypedDict):
    ok: bool
    changed: bool  # whether there was such a key


class Environment(TypedDict):
    name: str
    type: str  # conda, system, venv, virtualenv, pyenv, uv, poetry, pixi
    python_version: str  # "Python 3.11.7"
    path: str  # the absolute interpreter
    is_default: bool


class EnvironmentVersions(TypedDict):
    pythonVersion: str
    runicornVersion: str | None
    advice: str | None  # for a person; None if all is well


class Config(TypedDict):
    ok: bool
    condaEnv: str
    pythonVersion: str
    runicornVersion: str | None
    defaultStorageRoot: str
    storageRootExists: bool
    suggestedRemotePort: int
    connectionId: str
    homeDirectory: str
    advice: str | None  # for a person; None if all is well


class InstallResult(TypedDict):
    condaEnv: str  # what start_viewer takes
    python: str  # the absolute interpreter
    runicornVersion: str
    source: str  # index; or wheels, which were copied there


class Install(TypedDict):
    installId: str
    connectionId: str
    condaEnv: str | None
    version: str
    state: str  # running, done, failed, cancelled
    phase: str  # preparing, installing, downloading, copying, done
    startedAt: int  # milliseconds since the epoch
    elapsedSeconds: float
    lines: list[str]
    nextLine: int
    result: InstallResult | None
    error: str | None
    errorCode: str | None
    hint: str | None


class StorageCandidate(TypedDict):
    path: str
    run_count: int
    has_archive: bool
    has_index: bool
    score: int


class StorageCandidates(TypedDict):
    scan_root: str
    max_depth: int
    candidates: list[StorageCandidate]  # the best first


class DirectoryItem(TypedDict):
    name: str
    is_dir: bool
    size: int  # bytes; 0 for a directory
    mtime: int  # seconds since the epoch


class Directory(TypedDict):
    path: str  # absolute
    items: list[DirectoryItem]  # directories first, then by name


class PathExists(TypedDict):
    path: str
    exists: bool
    is_dir: bool


class Memory(TypedDict):
    totalBytes: int
    availableBytes: int


class Disk(TypedDict):
    path: str | None
    totalBytes: int
    freeBytes: int  # to this account


class Gpu(TypedDict):
    index: int
    name: str
    memoryTotalBytes: int | None
    memoryUsedBytes: int | None
    utilizationPercent: int | None


class Resources(TypedDict):
    ok: bool
    connectionId: str
    hostname: str | None
    platform: str | None  # linux, darwin
    cpus: int | None
    loadAverage: list[float] | None  # over 1, 5 and 15 minutes
    uptimeSeconds: float | None
    memory: Memory | None
    disk: Disk | None
    diskError: str | None
    gpus: list[Gpu] | None
    gpuError: str | None


class Tunnel(TypedDict):
    bytesIn: int
    bytesOut: int
    openConnections: int
    totalConnections: int


class Phase(TypedDict):
    name: str
    startedAt: int  # milliseconds since the epoch
    seconds: float | None  # None while it lasts, and of "ready"


class ViewerSession(TypedDict):
    """`status`: connecting, running, degraded, reconnecting, disconnected, error, stopped or stopping."""

    sessionId: str
    host: str
    sshPort: int
    username: str
    localPort: int
    remotePort: int | None
    remoteRoot: str
    remotePid: int | None
    status: str
    startedAt: int  # milliseconds since the epoch
    uptimeSeconds: float
    isActive: bool
    url: str
    condaEnv: str | None
    runicornVersion: str | None
    node: str | None  # the compute node it runs on; None: the host itself
    error: str | None
    errorCode: str | None
    errorDetail: dict[str, Any] | None  # what a person has to decide on: {"code", "message", "host_key"}
    phase: str  # of a start: connecting, preparing, launching, waiting, ready
    phases: list[Phase]  # of the latest start
    tunnel: Tunnel
    reconnects: int
    restarts: int
    lastHealthyAt: int | None  # milliseconds since the epoch


class ViewerEvent(TypedDict):
    id: str
    event: str  # session, or end
    data: dict[str, Any]


class ViewerLog(TypedDict):
    sessionId: str
    lines: list[str]  # the oldest first
    at: int  # when it was read, milliseconds since the epoch
    live: bool  # False: as it was last seen; it cannot be read now


class StartedViewer(TypedDict):
    ok: bool
    session: ViewerSession
    message: str


class Status(TypedDict):
    connections: list[Connection]
    viewer_sessions: list[ViewerSession]
    connection_count: int
    viewer_session_count: int


class Server(TypedDict):
    name: str
    version: str


class Health(TypedDict):
    status: str
    version: str  # of runicorn
    server: Server


class _WhereAndWhat(TypedDict):
    host: str | None
    username: str | None
    remote_root: str


class StartOptions(_WhereAndWhat, total=False):
    """What `start_viewer` takes."""

    port: int
    password: str | None
    private_key: str | None
    private_key_path: Any
    passphrase: str | None
    use_agent: bool
    local_port: int | None
    remote_port: int | None
    conda_env: str | None
    launch_args: Mapping[str, str] | None
    saved_server_id: str | None
    idempotency_key: str | None
    on_host_key: Any
