"""The client, put together of its parts."""

from __future__ import annotations

from types import TracebackType
from typing import cast

from runicorn_remote.client.connections import ConnectionMethods
from runicorn_remote.client.events import EventMethods
from runicorn_remote.client.hosts import HostMethods
from runicorn_remote.client.installs import InstallMethods
from runicorn_remote.client.shapes import Health, Status
from runicorn_remote.client.viewers import ViewerMethods


class RunicornRemoteClient(ConnectionMethods, HostMethods, InstallMethods, ViewerMethods, EventMethods):
    """Runicorn's Remote API, one method a route.

        with RunicornRemoteClient() as client:
            connection = client.connect("gpu1", "me", on_host_key=ask_me)
            with client.viewer(host="gpu1", username="me", remote_root="~/runicorn_data") as session:
                print(session["url"])

    Answers are the API's own dicts; a method whose answer is a list returns the list.

    `token` goes into every request as `Authorization: Bearer`. `timeout`, in seconds: by default 5 to
    reach the server and 30 for its answer, 180 where it asks a host first, 300 for a viewer's start. A
    number, or a pair (reach, answer), holds for every request instead, the slow ones included.
    `on_host_key` is called with a `HostKey` that is unknown or changed, by `connect`, `start_viewer` and
    `viewer`; if it returns True the key is accepted and the request repeated. `on_challenge` is called
    with a `Challenge`, what a host asks at the login, and returns one answer a prompt, or None to give
    up. Nothing else is ever sent twice, but the start of a viewer whose connection to the server was
    cut: it has a key that makes the second the same as the first. Proxies of the environment are used
    unless `base_url` is on this machine; redirects are followed nowhere.

    Errors of the API are `RunicornRemoteError`, a `requests.HTTPError`; see `runicorn_remote.client.errors`.
    May be used from several threads.
    """

    def status(self) -> Status:
        """Everything at a glance.

        `{"connections", "viewer_sessions", "connection_count", "viewer_session_count"}`
        """
        return cast("Status", self._get("/status"))

    def health(self) -> Health:
        """`{"status": "ok", "version", "server": {"name", "version"}}`"""
        return cast("Health", self._send("GET", "/api/health"))

    def __enter__(self) -> RunicornRemoteClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
