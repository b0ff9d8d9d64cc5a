"""Keeps secrets out of everything the server prints.

Two nets: every secret a caller hands in is registered and replaced wherever it appears, and text
that looks like a private key or a token is replaced even when nobody registered it. The redactor
is a logging *formatter* at the root, so that arguments, tracebacks and records of libraries pass
through it too.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable

REDACTED = "[redacted]"

_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.S),
    re.compile(r"gAAAAA[A-Za-z0-9_\-=]{40,}"),
    re.compile(r"(?i)(?<=bearer )[A-Za-z0-9._~+/\-=]+"),
)
_MAX_SECRETS = 4096
# A one-letter password cannot be told from prose; replacing it would only garble the log.
_SHORTEST = 4


class Redactor:
    """Remembers secrets and takes them out of texts. May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: OrderedDict[str, None] = OrderedDict()

    def register(self, secrets: Iterable[str | None]) -> None:
        """Remember these; None and very short ones are ignored. The oldest are forgotten beyond 4096."""
        with self._lock:
            for secret in secrets:
                for line in (secret or "").splitlines() or ():
                    line = line.strip()
                    if len(line) >= _SHORTEST:
                        for form in {line, repr(line)[1:-1], ascii(line)[1:-1]}:
                            self._secrets[form] = None
                            self._secrets.move_to_end(form)
            while len(self._secrets) > _MAX_SECRETS:
                self._secrets.popitem(last=False)

    def redact(self, text: str) -> str:
        for pattern in _PATTERNS:
            text = pattern.sub(REDACTED, text)
        with self._lock:
            found = [secret for secret in self._secrets if secret in text]
        for secret in sorted(found, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return text


class RedactingFormatter(logging.Formatter):
    """Formats as usual, then redacts the whole: message, arguments and traceback."""

    def __init__(self, redactor: Redactor, fmt: str | None = None) -> None:
        super().__init__(fmt)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        text = self._redactor.redact(super().format(record))
        # One record, one line start: a remote host must not be able to forge log lines.
        return "".join(
            character if character.isprintable() or character in "\n\t" else f"\\x{ord(character):02x}"
            for character in text
        )


# One per process: secrets are registered where they enter (the credentials schema), and the log
# handlers of a process are shared by everything in it anyway.
redactor = Redactor()
