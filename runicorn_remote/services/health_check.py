"""Asking a viewer whether it is well, the way a browser would: over the tunnel's local port."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable

MAX_BODY = 64 * 1024


def is_healthy(port: int, timeout: float, meanwhile: Callable[[], None] | None = None) -> bool:
    """One `GET /api/health` to 127.0.0.1. Any answer but `{"status": "ok"}`, or none in time, is False.

    `meanwhile`: what to do between the request and its answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", "/api/health", headers={"Connection": "close"})
        if meanwhile is not None:
            meanwhile()
        response = connection.getresponse()
        return says_ok(response.status, response.read(MAX_BODY))
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def says_ok(status: int, body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return status == 200 and isinstance(answer, dict) and answer.get("status") == "ok"
