"""Every setting, its default, and where it comes from.

Precedence: defaults < TOML file < `RUNICORN_REMOTE_*` environment < flags. An unknown key is an
error at start. `config/runicorn-remote.toml` lists every setting with a comment; a test keeps the
two the same.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints
from urllib.parse import urlsplit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "RUNICORN_REMOTE_"
# They start like settings and are none: the file itself, the server that client verbs ask, a secret.
_NO_SETTINGS = tuple(ENVIRONMENT_PREFIX + name for name in ("CONFIG", "URL", "TOKEN"))


# The default of a setting that another one decides. Afterwards it is a value like any other.
_BY_THREADS = cast(int, None)


class SettingsError(Exception):
    """A setting cannot be used. The message names it and says what is allowed."""


@dataclass(frozen=True)
class Settings:
    """All settings. Times are in seconds, sizes in bytes."""

    # The HTTP server.
    host: str = "127.0.0.1"
    port: int = 23300
    unix_socket: str | None = None
    threads: int = 32
    max_body_bytes: int = 1024 * 1024
    shutdown_timeout: float = 10.0
    log_level: str = "INFO"
    log_format: str = "text"
    audit_log: str | None = None
    metrics: bool = True

    # Who may use it.
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allowed_users: tuple[str, ...] = ()
    check_user: bool = True
    token_file: str | None = None

    # What may be reached with it.
    key_roots: tuple[str, ...] = ("~/.ssh", "~")
    allowed_targets: tuple[str, ...] = ()
    denied_targets: tuple[str, ...] = ()
    allow_weak_algorithms: bool = False

    # The web page at /.
    frontend: str = "auto"
    local_viewer: str | None = None

    # Files.
    state_dir: str | None = None
    store_secrets: bool = True
    secret_key: str = "file"  # noqa: S105 (a place)

    # SSH.
    connect_timeout: float = 10.0
    banner_timeout: float = 10.0
    auth_timeout: float = 20.0
    challenge_timeout: float = 110.0
    channel_timeout: float = 10.0
    command_timeout: float = 60.0
    install_timeout: float = 900.0
    sessions_per_connection: int = 8
    client_banner: str | None = None
    ssh_config: str = "auto"
    ssh_config_commands: bool = True

    # Limits of the server's own.
    slow_requests: int = _BY_THREADS
    max_event_streams: int = _BY_THREADS
    max_connections: int = 100
    max_viewers: int = 200
    max_tunnel_connections: int = 1000
    login_backoff_max: float = 60.0

    # Viewers.
    launch: tuple[str, ...] = ()
    viewer_start_timeout: float = 120.0
    viewer_stop_timeout: float = 10.0
    on_shutdown: str = "stop"
    max_restarts: int = 3
    restart_window: float = 600.0

    # Reconnecting.
    reconnect_first: float = 0.25
    reconnect_max: float = 4.0

    # The heartbeat.
    heartbeat_interval: float = 5.0
    probe_timeout: float = 5.0
    health_timeout: float = 4.0
    idle_probe_after: float = 600.0
    ended_session_ttl: float = 3600.0

    def __post_init__(self) -> None:
        self._share_threads()
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SettingsError(f"{name}: {value!r} is not between {lowest} and {highest}")
        if self.log_level.upper() not in _LOG_LEVELS:
            raise SettingsError(f"log_level: {self.log_level!r} is not one of {', '.join(_LOG_LEVELS)}")
        if self.log_format not in ("text", "json"):
            raise SettingsError(f"log_format: {self.log_format!r} is not text or json")
        if self.local_viewer is not None and not _is_http_address(self.local_viewer):
            raise SettingsError(
                f"local_viewer: {self.local_viewer!r} is not an address like http://127.0.0.1:23301"
            )
        if self.on_shutdown not in ("stop", "keep"):
            raise SettingsError(f"on_shutdown: {self.on_shutdown!r} is not stop or keep")
        if self.secret_key not in ("file", "keyring", "credential"):
            raise SettingsError(f"secret_key: {self.secret_key!r} is not file, keyring or credential")
        if self.slow_requests >= self.threads:
            raise SettingsError("slow_requests: must be below threads, so that status always finds a thread")
        if self.slow_requests + self.max_event_streams >= self.threads:
            raise SettingsError(
                "max_event_streams: together with slow_requests it must be below threads, so that status "
                "always finds a thread"
            )

    def _share_threads(self) -> None:
        """Three eighths of the threads may wait for hosts, half may serve events; the rest is for status.

        What is not given makes room for what is. `dataclasses.replace` takes both as given.
        """
        given = [value for value in (self.slow_requests, self.max_event_streams) if value is not None]
        left = self.threads - 1 - sum(given)
        if self.slow_requests is None:
            slow_requests = max(1, min(self.threads * 3 // 8, left))
            object.__setattr__(self, "slow_requests", slow_requests)
            left -= slow_requests
        if self.max_event_streams is None:
            object.__setattr__(self, "max_event_streams", max(0, min(self.threads // 2, left)))

    @classmethod
    def load(
        cls,
        config_file: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Put the layers together. `flags` that are None are not given. Raises `SettingsError`."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        config_file = config_file or environ.get(ENVIRONMENT_PREFIX + "CONFIG")
        if config_file:
            values.update(_from_file(Path(config_file)))
        values.update(_from_environment(environ))
        values.update({name: value for name, value in (flags or {}).items() if value is not None})
        return cls(**values)

    @property
    def longest_start(self) -> float:
        """After so many seconds the start of a viewer has ended, one way or the other."""
        login = self.connect_timeout + self.banner_timeout + self.auth_timeout
        return login + self.viewer_start_timeout + self.viewer_stop_timeout + 10 * self.health_timeout

    def resolved_state_dir(self) -> Path:
        """Runicorn's own configuration directory, unless `state_dir` says otherwise."""
        if self.state_dir:
            return Path(self.state_dir).expanduser()
        if os.name == "nt":
            appdata = os.environ.get("APPDATA")
            return (Path(appdata) if appdata else Path.home() / "AppData" / "Roaming") / "Runicorn"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Application Support" / "Runicorn"
        xdg = os.environ.get("XDG_CONFIG_HOME")
        return (Path(xdg) if xdg else Path.home() / ".config") / "runicorn"


def _is_http_address(text: str) -> bool:
    """Scheme, host and perhaps a port; nothing else."""
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and text.rstrip("/") == f"{parts.scheme}://{parts.netloc}"
            and "@" not in parts.netloc
        )
    except ValueError:  # of the port
        return False


_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_TIMES = (0.05, 86400.0)
_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "threads": (2, 256),
    "max_body_bytes": (1024, 64 * 1024 * 1024),
    "shutdown_timeout": _TIMES,
    "connect_timeout": _TIMES,
    "banner_timeout": _TIMES,
    "auth_timeout": _TIMES,
    "challenge_timeout": _TIMES,
    "channel_timeout": _TIMES,
    "command_timeout": _TIMES,
    "install_timeout": _TIMES,
    "sessions_per_connection": (1, 1000),
    "slow_requests": (1, 255),
    "max_event_streams": (0, 255),
    "max_connections": (1, 10000),
    "max_viewers": (1, 10000),
    "max_tunnel_connections": (1, 100000),
    "login_backoff_max": (0, 3600),
    "viewer_start_timeout": _TIMES,
    "viewer_stop_timeout": _TIMES,
    "max_restarts": (0, 100),
    "restart_window": _TIMES,
    "reconnect_first": _TIMES,
    "reconnect_max": _TIMES,
    "heartbeat_interval": _TIMES,
    "probe_timeout": _TIMES,
    "health_timeout": _TIMES,
    "idle_probe_after": _TIMES,
    "ended_session_ttl": _TIMES,
}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.expanduser().open("rb") as stream:
            raw = tomllib.load(stream)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    return {name: _typed(name, value, f"{path}: {name}") for name, value in raw.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for variable, text in environ.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in _NO_SETTINGS:
            name = variable[len(ENVIRONMENT_PREFIX) :].lower()
            values[name] = _typed(name, _from_text(name, text, variable), variable)
    return values


def _from_text(name: str, text: str, where: str) -> Any:
    kind = _kinds().get(name)
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except ValueError as error:
        raise SettingsError(f"{where}: {text!r} is not a number") from error
    if kind is bool:
        lowered = text.strip().lower()
        if lowered not in ("true", "false", "1", "0", "yes", "no"):
            raise SettingsError(f"{where}: {text!r} is not true or false")
        return lowered in ("true", "1", "yes")
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _typed(name: str, value: Any, where: str) -> Any:
    kind = _kinds().get(name)
    if kind is None:
        known = ", ".join(sorted(_kinds()))
        raise SettingsError(f"{where}: no such setting. Known are: {known}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SettingsError(f"{where}: {value!r} is not {_KIND_NAMES[kind]}")
    return value


_KIND_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of texts",
}


def _kinds() -> dict[str, type]:
    """Setting name -> the plain type of its value."""
    hints = get_type_hints(Settings)
    kinds = {}
    for item in dataclasses.fields(Settings):
        hint = hints[item.name]
        text = str(hint)
        kinds[item.name] = hint if isinstance(hint, type) else tuple if text.startswith("tuple") else str
    return kinds
