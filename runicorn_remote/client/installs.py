"""Putting runicorn onto a host that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

import requests

from runicorn_remote.client.api_client import SLOW, ApiClient
from runicorn_remote.client.errors import InstallFailed
from runicorn_remote.client.shapes import Install, Ok

_ROUTE = "/environments/install"


class InstallMethods(ApiClient):
    def install_runicorn(
        self,
        *,
        connection_id: str,
        conda_env: str | None = None,
        version: str | None = None,
        on_line: Callable[[str], object] | None = None,
        poll_interval: float = 0.5,
    ) -> Install:
        """Install runicorn into an environment of the host, or into one of its own; returns when it is done.

            done = client.install_runicorn(connection_id="me@gpu1:22", on_line=print)
            client.start_viewer(..., conda_env=done["result"]["condaEnv"])

        `conda_env` is a name of `list_conda_envs`, or a path; without one runicorn gets an environment of
        its own, which is called runicorn-remote. `version`: that of the server's runicorn. `on_line` is
        called with each line of progress.

        Raises `InstallFailed`, `Conflict` if one is under way there. Ctrl-C, or an exception of `on_line`,
        cancels it.
        """
        install = self.begin_install(connection_id=connection_id, conda_env=conda_env, version=version)
        install_id, after = install["installId"], 0
        try:
            while True:
                install = self.get_install(install_id=install_id, after=after)
                after = install["nextLine"]
                for line in install["lines"] if on_line else ():
                    on_line(line)  # type: ignore[misc]
                if install["state"] != "running":
                    break
                if self._closed.wait(poll_interval):
                    raise RuntimeError("The client was closed")
        except BaseException:
            self._cancel_quietly(install_id)
            raise
        if install["state"] != "done":
            raise InstallFailed(install["error"] or install["state"], install)
        return install

    def begin_install(
        self, *, connection_id: str, conda_env: str | None = None, version: str | None = None
    ) -> Install:
        """The beginning of `install_runicorn`: returns at once, with what `get_install` takes."""
        options: dict[str, Any] = {"conda_env": conda_env, "version": version}
        body = {"connection_id": connection_id, **{k: v for k, v in options.items() if v is not None}}
        return cast("Install", self._post(_ROUTE, body, wait=SLOW)["install"])

    def get_install(self, *, install_id: str, after: int = 0) -> Install:
        """How far it is, with the lines since number `after`: the `nextLine` of an earlier answer.

        Raises `NotFound`, also an hour after its end.
        """
        return cast("Install", self._get(_path(install_id), {"after": after}))

    def cancel_install(self, *, install_id: str) -> Ok:
        """End it; what it has begun on the host is taken back. Raises `NotFound`."""
        return cast("Ok", self._post(f"{_path(install_id)}/cancel", {}))

    def _cancel_quietly(self, install_id: str) -> None:
        """While another exception is on its way."""
        try:
            self.cancel_install(install_id=install_id)
        except (requests.RequestException, RuntimeError):
            return


def _path(install_id: str) -> str:
    return f"{_ROUTE}/{quote(install_id, safe='')}"
