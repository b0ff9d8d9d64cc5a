"""One HTTP request: where it goes, how long it may take, and what becomes of its answer."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from runicorn_remote._version import __version__
from runicorn_remote.client.answers import error_of, unexpected
from runicorn_remote.client.challenge import OnChallenge
from runicorn_remote.client.errors import HostKeyConfirmationRequired, InteractiveAuthRequired
from runicorn_remote.client.host_key import HostKey, OnHostKey

DEFAULT_BASE_URL = "http://127.0.0.1:23300"

# Seconds until the server takes the connection, and until its answer comes.
CONNECT_TIMEOUT = 5.0
QUICK = 30.0
# The server asks a host first. Longer than the server's own deadlines, which end in better errors.
SLOW = 180.0
# Login, start, and the first answer of the viewer through the tunnel.
START = 300.0

# A login over jump hosts asks about a key and a code at each. More than that is not going to end.
_MAX_QUESTIONS = 20
# For what may be sent again: how often, and after how many seconds.
_TIMES_AGAIN = 2
_PAUSE = 0.5

Timeout = float | tuple[float | None, float | None] | None


class ApiClient:
    """What all parts of the client have in common. May be used from several threads."""

    def __init__(
        self,
        base_url: str = DEFAULT_BASE_URL,
        token: str | None = None,
        timeout: Timeout = None,
        *,
        on_host_key: OnHostKey | None = None,
        on_challenge: OnChallenge | None = None,
    ) -> None:
        self.base_url = _checked_url(base_url)
        self.timeout = timeout
        self.session = requests.Session()
        self.session.auth = _Token(_checked_token(token))
        self.session.headers["User-Agent"] = f"runicorn-remote-client/{__version__}"
        # A proxy from the environment cannot reach this machine's own loopback.
        self.session.trust_env = not _is_loopback(self.base_url)
        self._on_host_key = on_host_key
        self._on_challenge = on_challenge
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def close(self) -> None:
        """Close the connections to the server. What runs there goes on."""
        self._closed.set()
        self.session.close()

    def accept_host_key(self, host_key: HostKey | Mapping[str, Any]) -> dict[str, Any]:
        """Trust a key for good, in place of the host's other keys of its type; a dict is that of a 409."""
        key = host_key if isinstance(host_key, HostKey) else HostKey.from_dict(host_key)
        body = {
            "host": key.host,
            "port": key.port,
            "key_type": key.key_type,
            "public_key": key.public_key,
            "fingerprint_sha256": key.fingerprint_sha256,
        }
        return self._send("POST", "/api/remote/known-hosts/accept", body=body)

    def _get(self, path: str, query: Mapping[str, Any] | None = None, *, wait: float = QUICK) -> Any:
        """`path` below /api/remote; `wait`: seconds for the answer unless the client has a `timeout`."""
        return self._send("GET", f"/api/remote{path}", query=query, wait=wait)

    def _post(
        self,
        path: str,
        body: Any,
        *,
        wait: float = QUICK,
        on_host_key: OnHostKey | None = None,
        on_challenge: OnChallenge | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Sent once; again only after `on_host_key` said yes to the key it failed on, or with the answers
        of `on_challenge` to what the host asked.

        With an `idempotency_key`, which makes it harmless, also when the connection was cut.
        """
        send = partial(self._send, "POST", f"/api/remote{path}", wait=wait, idempotency_key=idempotency_key)
        decide = on_host_key or self._on_host_key
        ask = on_challenge or self._on_challenge
        answers: dict[str, Any] = {}
        for _ in range(_MAX_QUESTIONS):
            try:
                return send(body={**body, **answers} if answers else body)
            except HostKeyConfirmationRequired as error:
                if decide is None or not decide(error.host_key):
                    raise
                error.accept()
                answers = {}  # a new login, which asks anew
            except InteractiveAuthRequired as error:
                responses = ask(error.challenge) if ask is not None else None
                if responses is None:
                    raise
                answers = {"challenge_id": error.challenge.challenge_id, "responses": list(responses)}
        return send(body={**body, **answers} if answers else body)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait: float = QUICK,
        idempotency_key: str | None = None,
    ) -> Any:
        response = self._request(
            _TIMES_AGAIN if idempotency_key else 0,
            method,
            self.base_url + path,
            params=query,
            json=body,
            headers={"Idempotency-Key": f'"{idempotency_key}"'} if idempotency_key else None,
            timeout=self.timeout if self.timeout is not None else (CONNECT_TIMEOUT, wait),
            # The API redirects nowhere, and a body with a password follows nobody elsewhere.
            allow_redirects=False,
        )
        if response.status_code >= 400:
            raise error_of(response, self.accept_host_key)
        try:
            answer = response.json() if response.status_code in (200, 202) else None
        except requests.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise unexpected(response)
        return answer

    def _request(self, times_again: int, *arguments: Any, **more: Any) -> requests.Response:
        """What is cut off before its answer is sent again, so often."""
        while True:
            try:
                return self.session.request(*arguments, **more)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                if times_again == 0 or not _was_cut(error) or self._closed.wait(_PAUSE):
                    raise
                times_again -= 1


def _was_cut(error: requests.RequestException) -> bool:
    """Whether there was a connection: what nobody takes today, nobody takes in a moment."""
    return bool(error.args) and isinstance(error.args[0], urllib3.exceptions.ProtocolError)


class _Token(AuthBase):
    """The token as a header. Set even without one: requests would take credentials from ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("base_url: must be of the form http://HOST:PORT")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("base_url: only scheme, host, port and path; a token has its own argument")
    return base_url.rstrip("/")


def _checked_token(token: str | None) -> str | None:
    """Without the line end of the file it came from. Not in the message if it cannot be used."""
    token = token.strip() if token is not None else None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("token: holds characters that no HTTP header can")
    return token or None


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
