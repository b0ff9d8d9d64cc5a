"""Logging in and out, host keys, and what is saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from runicorn_remote.client.api_client import SLOW, ApiClient
from runicorn_remote.client.challenge import OnChallenge
from runicorn_remote.client.host_key import OnHostKey
from runicorn_remote.client.shapes import Connected, Connection, KnownHost, Ok, Removed, Saved

DEFAULT_SSH_PORT = 22


class ConnectionMethods(ApiClient):
    def connect(
        self,
        host: str | None,
        username: str | None,
        port: int = DEFAULT_SSH_PORT,
        password: str | None = None,
        private_key: str | None = None,
        private_key_path: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        use_agent: bool = True,
        *,
        saved_server_id: str | None = None,
        on_host_key: OnHostKey | None = None,
        on_challenge: OnChallenge | None = None,
    ) -> Connected:
        """Log in, or reuse the live connection of the same identity.

        `private_key` is the text of a key, `private_key_path` a file on the server's machine (`~`
        allowed). What is given is what is tried; without any, the server's SSH agent and default keys.
        With `saved_server_id`, the saved server supplies what is missing: host and username may be
        None, and port 22 is whatever is saved.

        Returns `{"ok", "connection_id", "host", "port", "username", "connected"}`. Raises
        `HostKeyConfirmationRequired` unless `on_host_key` accepts the key, `InteractiveAuthRequired`
        unless `on_challenge` answers what the host asks, `AuthenticationFailed`, `HostUnreachable`,
        `KeyUnusable`, ...
        """
        body = login(
            host=host,
            username=username,
            port=port,
            password=password,
            private_key=private_key,
            private_key_path=private_key_path,
            passphrase=passphrase,
            use_agent=use_agent,
            saved_server_id=saved_server_id,
        )
        return cast(
            "Connected",
            self._post("/connect", body, wait=SLOW, on_host_key=on_host_key, on_challenge=on_challenge),
        )

    def list_sessions(self) -> list[Connection]:
        """The SSH connections users opened: `[{"key", "host", "port", "username", "connected"}]`."""
        return cast("list[Connection]", self._get("/sessions")["sessions"])

    def disconnect(self, *, host: str, port: int, username: str, stop_viewers: bool = False) -> Ok:
        """Let go of a connection: `{"ok", "message"}`, `ok` false if there is none.

        Viewers over the same host go on, unless `stop_viewers`.
        """
        body = {"host": host, "port": port, "username": username}
        if stop_viewers:
            body["stop_viewers"] = True
        return cast("Ok", self._post("/disconnect", body, wait=SLOW))

    # --- host keys; `accept_host_key` is in the base class

    def list_known_hosts(self) -> list[KnownHost]:
        """The keys that are trusted.

        `[{"host", "port", "known_hosts_host", "key_type", "key_base64", "fingerprint_sha256"}]`
        """
        return cast("list[KnownHost]", self._get("/known-hosts/list")["entries"])

    def remove_known_host(self, *, host: str, port: int = DEFAULT_SSH_PORT, key_type: str) -> Removed:
        """Forget a host's keys of one type: `{"ok", "changed"}`, `changed` false if there is none."""
        body = {"host": host, "port": port, "key_type": key_type}
        return cast("Removed", self._post("/known-hosts/remove", body))

    # --- saved servers and profiles

    def saved_connections(self) -> list[dict[str, Any]]:
        """All saved entries, of `kind` "server" and "connection".

        Without their secrets: `hasSavedPassword`, `hasSavedPrivateKey` and `hasSavedPassphrase` say
        which are there. The `id` of a server is a `saved_server_id`.
        """
        return cast("list[dict[str, Any]]", self._get("/connections/saved")["connections"])

    def save_connections(self, connections: Iterable[Mapping[str, Any]]) -> Saved:
        """Replace the whole list: `{"ok", "message"}`, and `"warning"` if the server stores no secrets.

        A secret that is missing from a known entry is kept; None, or a `hasSaved…` that is False,
        forgets it.
        """
        return cast("Saved", self._post("/connections/saved", [dict(entry) for entry in connections]))


def login(
    *,
    port: int,
    private_key_path: str | os.PathLike[str] | None,
    saved_server_id: str | None,
    **given: Any,
) -> dict[str, Any]:
    """The credentials as the API takes them; None means not given."""
    body = {
        **given,
        # A port we send has to be the saved one, and we cannot tell 22 from the default.
        "port": None if saved_server_id and port == DEFAULT_SSH_PORT else port,
        "private_key_path": None if private_key_path is None else os.fspath(private_key_path),
        "saved_server_id": saved_server_id,
    }
    return {name: value for name, value in body.items() if value is not None}
