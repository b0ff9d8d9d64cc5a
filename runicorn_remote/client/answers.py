"""From responses to exceptions: by `code`, else by status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

from runicorn_remote.client.challenge import Challenge
from runicorn_remote.client.errors import (
    AuthenticationFailed,
    BadRequest,
    Busy,
    Conflict,
    ConnectionNotFound,
    EnvironmentNotFound,
    Forbidden,
    HostKeyConfirmationRequired,
    HostKeyRevoked,
    HostUnreachable,
    InteractiveAuthRequired,
    KeyUnusable,
    LinkLost,
    LocalPortInUse,
    LoginFailed,
    NotFound,
    PassphraseRequired,
    PassphraseWrong,
    RunicornNotInstalled,
    RunicornRemoteError,
    ServerError,
    SessionNotFound,
    StartCancelled,
    Unauthorized,
    UnexpectedAnswer,
    ValidationFailed,
    ViewerStartFailed,
)
from runicorn_remote.client.host_key import HostKey

_BY_CODE: dict[str, type[RunicornRemoteError]] = {
    "KEY_UNUSABLE": KeyUnusable,
    "PASSPHRASE_REQUIRED": PassphraseRequired,
    "PASSPHRASE_WRONG": PassphraseWrong,
    "CONNECTION_NOT_FOUND": ConnectionNotFound,
    "SESSION_NOT_FOUND": SessionNotFound,
    "ENVIRONMENT_NOT_FOUND": EnvironmentNotFound,
    "LOCAL_PORT_IN_USE": LocalPortInUse,
    "LINK_LOST": LinkLost,
    "LINK_TIMEOUT": LinkLost,
    "CHANNEL_REFUSED": LinkLost,
    "LOGIN_FAILED": LoginFailed,
    "HANDSHAKE_FAILED": LoginFailed,
    "NO_COMMON_ALGORITHM": LoginFailed,
    "WEAK_ALGORITHMS_ONLY": LoginFailed,
    "AUTH_FAILED": AuthenticationFailed,
    "HOST_KEY_REVOKED": HostKeyRevoked,
    "VIEWER_START_FAILED": ViewerStartFailed,
    "VIEWER_START_TIMEOUT": ViewerStartFailed,
    "VIEWER_EXITED": ViewerStartFailed,
    "VIEWER_NOT_ANSWERING": ViewerStartFailed,
    "RUNICORN_NOT_INSTALLED": RunicornNotInstalled,
    "START_CANCELLED": StartCancelled,
}
_BY_STATUS: dict[int, type[RunicornRemoteError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: ValidationFailed,
    429: Busy,
    503: HostUnreachable,
}


def error_of(response: requests.Response, accept: Callable[[HostKey], object]) -> RunicornRemoteError:
    """The exception for a response that is an error. `accept` is what accepts a host key."""
    body = _json_object(response)
    detail, hint = body.get("detail"), body.get("hint")
    inner = detail if isinstance(detail, dict) else {}
    code = body.get("code") or inner.get("code")
    code = code if isinstance(code, str) else ""
    values: dict[str, Any] = {"response": response, "detail": detail, "code": code, "hint": hint}
    message = _sentence(response, detail)
    if response.status_code == 409 and code == "HOST_KEY_CONFIRMATION_REQUIRED":
        host_key = _host_key(inner)
        if host_key is not None:
            error = HostKeyConfirmationRequired(f"{message}: {host_key}", **values)
            error.host_key, error._accept = host_key, accept
            return error
    if response.status_code == 401 and code == "INTERACTIVE_AUTH_REQUIRED":
        challenge = _challenge(inner)
        if challenge is not None:
            question = InteractiveAuthRequired(message, **values)
            question.challenge = challenge
            return question
    return _class_of(response, code)(message, **values)


def unexpected(response: requests.Response) -> UnexpectedAnswer:
    """For an answer that is neither a result nor an error of this API's."""
    what = response.headers.get("Location") or response.headers.get("Content-Type") or "something else"
    where = response.url.partition("?")[0]
    return UnexpectedAnswer(
        f"{where} is not the Remote API: it answered {response.status_code} with {what}", response=response
    )


def _class_of(response: requests.Response, code: str) -> type[RunicornRemoteError]:
    if response.status_code == 503 and "Retry-After" in response.headers:
        return Busy
    if code in _BY_CODE:
        return _BY_CODE[code]
    usual = ServerError if response.status_code >= 500 else BadRequest
    return _BY_STATUS.get(response.status_code, usual)


def _sentence(response: requests.Response, detail: Any) -> str:
    if isinstance(detail, str) and detail:
        return detail
    if isinstance(detail, dict) and isinstance(detail.get("message"), str):
        return str(detail["message"])
    if isinstance(detail, list):
        faults = [_fault(item) for item in detail if isinstance(item, dict)]
        return "The request is not valid: " + "; ".join(faults)
    return f"The server answered {response.status_code} {response.reason or ''}".rstrip()


def _fault(item: dict[str, Any]) -> str:
    loc = item.get("loc")
    where = ".".join(str(part) for part in loc[1:]) if isinstance(loc, list) else ""
    return f"{where}: {item.get('msg')}" if where else str(item.get("msg"))


def _host_key(detail: dict[str, Any]) -> HostKey | None:
    values = detail.get("host_key")
    try:
        return HostKey.from_dict(values) if isinstance(values, dict) else None
    except ValueError:
        return None


def _challenge(detail: dict[str, Any]) -> Challenge | None:
    try:
        return Challenge.from_dict(detail)
    except ValueError:
        return None


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
