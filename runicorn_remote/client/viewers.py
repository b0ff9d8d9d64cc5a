"""Starting, watching and ending viewers."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import requests

from runicorn_remote.client.api_client import SLOW, START, ApiClient
from runicorn_remote.client.challenge import OnChallenge
from runicorn_remote.client.connections import DEFAULT_SSH_PORT, login
from runicorn_remote.client.errors import RunicornRemoteError, SessionNotFound, ViewerEnded
from runicorn_remote.client.host_key import OnHostKey
from runicorn_remote.client.shapes import Ok, StartedViewer, StartOptions, ViewerLog, ViewerSession

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_ENDED = ("error", "stopped")
# How long a session that nobody told us about may take to be listed.
_LISTED_WITHIN = 1.0


class ViewerMethods(ApiClient):
    def start_viewer(
        self,
        *,
        host: str | None,
        username: str | None,
        remote_root: str,
        port: int = DEFAULT_SSH_PORT,
        password: str | None = None,
        private_key: str | None = None,
        private_key_path: str | os.PathLike[str] | None = None,
        passphrase: str | None = None,
        use_agent: bool = True,
        local_port: int | None = None,
        remote_port: int | None = None,
        conda_env: str | None = None,
        launch_args: Mapping[str, str] | None = None,
        saved_server_id: str | None = None,
        on_host_key: OnHostKey | None = None,
        on_challenge: OnChallenge | None = None,
        wait: bool = True,
        idempotency_key: str | None = None,
    ) -> StartedViewer:
        """Start a viewer on the host and open a local port to it; returns when it answers there.

        `remote_root` is the storage directory on the host. Without ports, free ones are taken.
        `launch_args` fill the command by which the server starts viewers on that cluster's nodes. The
        credentials are those of `connect`; without any, a connection that is open already serves.

        Returns `{"ok", "session", "message"}`; `session["url"]` is what to open, `session["sessionId"]`
        what `stop_viewer` takes. Raises what `connect` raises, `EnvironmentNotFound`, `LocalPortInUse`,
        `ViewerStartFailed`. A time-out or Ctrl-C here ends the wait, not the start: see `viewer`.

        With `wait` False it returns at once with a session that is `connecting`; ask `wait_until` for
        its end. A start that fails is then a session in `error`, with `errorCode` and `errorDetail`.

        Every start has an `idempotency_key`, one made for it unless it is given, and is sent again when
        the connection to the server is cut: the server starts one viewer for one key.
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
        options = {
            "remote_root": remote_root,
            "local_port": local_port,
            "remote_port": remote_port,
            "conda_env": conda_env,
            "launch_args": None if launch_args is None else dict(launch_args),
        }
        body.update({name: value for name, value in options.items() if value is not None})
        if not wait:
            body["wait"] = False
        answer = self._post(
            "/viewer/start",
            body,
            wait=START,
            on_host_key=on_host_key,
            on_challenge=on_challenge,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
        )
        return cast("StartedViewer", answer)

    def stop_viewer(self, *, session_id: str) -> Ok:
        """End a viewer, or cancel one that is starting: `{"ok", "message"}`. Raises `SessionNotFound`."""
        return cast("Ok", self._post("/viewer/stop", {"session_id": session_id}, wait=SLOW))

    def get_viewer_session(self, *, session_id: str) -> ViewerSession:
        """One session, as `start_viewer` returns it. Raises `SessionNotFound`."""
        return cast("ViewerSession", self._get(f"/viewer/status/{quote(session_id, safe='')}"))

    def viewer_log(self, session_id: str, tail: int = 100) -> ViewerLog:
        """The last lines (1 to 1000) of a viewer's log on its host: `{"sessionId", "lines", "at", "live"}`.

        `live` is False for what was last seen of it, while the host cannot be asked. Raises
        `SessionNotFound`; `LinkLost`, `NotFound` or `Conflict` (not launched yet) if there is nothing.
        """
        path = f"/viewer/{quote(session_id, safe='')}/log"
        return cast("ViewerLog", self._get(path, {"tail": tail}, wait=SLOW))

    def list_viewer_sessions(self) -> list[ViewerSession]:
        """All sessions, those that are starting included."""
        return cast("list[ViewerSession]", self._get("/viewer/sessions")["sessions"])

    @contextmanager
    def viewer(self, **start: Unpack[StartOptions]) -> Iterator[ViewerSession]:
        """A viewer for the time of a `with` block; takes what `start_viewer` takes.

            with client.viewer(host="gpu1", username="me", remote_root="~/data") as session:
                webbrowser.open(session["url"])

        It is stopped however the block ends, and if the wait for the start is cut off (Ctrl-C, a
        time-out). If the block raises, that is what is raised, even if the stop fails as well; then the
        stop's failure is logged.
        """
        session = self._start_or_withdraw(start)
        try:
            yield session
        except BaseException:
            self._stop_quietly(session["sessionId"])
            raise
        self._stop_if_there(session["sessionId"])

    def wait_until(
        self,
        session_id: str,
        status: str | Collection[str] = "running",
        timeout: float = 120.0,
        *,
        poll_interval: float = 0.5,
    ) -> ViewerSession:
        """Ask until the session has this status, or one of these; returns the session.

        Raises `TimeoutError` after `timeout` seconds, `ViewerEnded` if it crashed or ended itself, or its
        start in the background failed, `SessionNotFound` if it was stopped. `close` in another thread ends
        the wait with a `RuntimeError`.
        """
        wanted = (status,) if isinstance(status, str) else tuple(status)
        deadline = time.monotonic() + timeout
        while True:
            session = self.get_viewer_session(session_id=session_id)
            seen = session["status"]
            if seen in wanted:
                return session
            if seen in _ENDED:
                raise ViewerEnded(f"Viewer {session_id} is over ({seen}): {session['error']}", session)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"Viewer {session_id} is still {seen} after {timeout:g} s")
            if self._closed.wait(min(poll_interval, left)):
                raise RuntimeError("The client was closed")

    # --- the two ends of `viewer`

    def _start_or_withdraw(self, start: StartOptions) -> ViewerSession:
        before = {session["sessionId"] for session in self.list_viewer_sessions()}
        try:
            return self.start_viewer(**start)["session"]
        except RunicornRemoteError:
            raise  # the server has said no, and has cleaned up
        except BaseException as error:
            # Cut off (Ctrl-C, a time-out), not an error of ours: the server goes on starting.
            if isinstance(error, requests.RequestException) or not isinstance(error, Exception):
                self._withdraw(start, before)
            raise

    def _withdraw(self, start: StartOptions, before: set[str]) -> None:
        """Stop the session whose id we never learned: the one new session that is like it."""
        deadline = time.monotonic() + _LISTED_WITHIN
        try:
            while True:
                new = [item for item in self.list_viewer_sessions() if item["sessionId"] not in before]
                found = [item["sessionId"] for item in new if _is_of(start, item)]
                if found or time.monotonic() > deadline or self._closed.wait(0.1):
                    break
        except requests.RequestException as error:
            logger.warning("Whether a viewer was started is not known: %s", error)
            return
        if len(found) == 1:
            self._stop_quietly(found[0])
        elif found:
            # Better one too many than somebody else's.
            logger.warning("A viewer that was started may still run; one of %s", ", ".join(found))

    def _stop_quietly(self, session_id: str) -> None:
        """Stop it while another exception is on its way."""
        try:
            self._stop_if_there(session_id)
        except requests.RequestException as error:
            logger.warning("Viewer %s could not be stopped: %s", session_id, error)

    def _stop_if_there(self, session_id: str) -> None:
        try:
            self.stop_viewer(session_id=session_id)
        except SessionNotFound:
            logger.debug("Viewer %s was stopped before", session_id)


def _is_of(start: StartOptions, session: ViewerSession) -> bool:
    asked: list[tuple[Any, Any]] = [
        (start["host"], session["host"]),
        (start["username"], session["username"]),
        (start.get("local_port"), session["localPort"]),
    ]
    if not start.get("saved_server_id"):
        asked.append((start.get("port", DEFAULT_SSH_PORT), session["sshPort"]))
    return all(wanted in (None, has) for wanted, has in asked)
