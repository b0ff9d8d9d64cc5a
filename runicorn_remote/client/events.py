"""Following a viewer: server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import requests

from runicorn_remote.client.answers import error_of, unexpected
from runicorn_remote.client.api_client import CONNECT_TIMEOUT, ApiClient
from runicorn_remote.client.shapes import ViewerEvent

# The server says every 15 s that it is there.
_SILENCE = 45.0
# Before coming back after a cut, in seconds.
_PAUSE = 0.5


class EventMethods(ApiClient):
    def viewer_events(self, session_id: str, *, last_event_id: str | None = None) -> Iterator[ViewerEvent]:
        """What happens to a viewer, as it happens: `{"id", "event", "data"}`, from its beginning.

        `event` is `session`, with `status`, `phase`, `phases`, `error`, `errorCode`, `errorDetail` and `at`
        in `data` after each change, and at last `end`, with the `reason` `ended` or `removed`. A stream
        that is cut is taken up again where it was; `last_event_id` does so across programs.

        Raises `SessionNotFound`, `Busy` if too many follow, `requests.ConnectionError` if the server is
        gone. Close the iterator (`contextlib.closing`) to stop before the end.
        """
        seen = last_event_id
        while True:
            response = self._open_events(session_id, seen)
            with response:
                if response.status_code == 204:
                    return
                try:
                    for event in _events(response):
                        yield event
                        seen = event["id"]
                        if event["event"] == "end":
                            return
                except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                    pass
            if self._closed.wait(_PAUSE):
                raise RuntimeError("The client was closed")

    def _open_events(self, session_id: str, last_id: str | None) -> requests.Response:
        response = self.session.get(
            f"{self.base_url}/api/remote/viewer/{quote(session_id, safe='')}/events",
            headers={"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})},
            timeout=self.timeout if self.timeout is not None else (CONNECT_TIMEOUT, _SILENCE),
            allow_redirects=False,
            stream=True,
        )
        if response.status_code >= 400:
            raise error_of(response, self.accept_host_key)
        is_stream = response.headers.get("Content-Type", "").startswith("text/event-stream")
        if response.status_code != 204 and not (response.status_code == 200 and is_stream):
            response.close()
            raise unexpected(response)
        return response


def _events(response: requests.Response) -> Iterator[ViewerEvent]:
    """Comments and fields that are not known are skipped."""
    fields: dict[str, str] = {}
    # Small pieces: a larger one would be waited for until it is full.
    for line in response.iter_lines(chunk_size=1):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if line:
            fields[name] = value.removeprefix(" ")
            continue
        event = _event(fields)
        fields = {}
        if event is not None:
            yield event


def _event(fields: dict[str, str]) -> ViewerEvent | None:
    try:
        data: Any = json.loads(fields["data"])
    except (KeyError, ValueError):
        return None
    event = {"id": fields.get("id", ""), "event": fields.get("event", "message"), "data": data}
    return cast("ViewerEvent", event)
