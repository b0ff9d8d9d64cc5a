"""The field types of all schemas: what plain marshmallow fields let through and we cannot use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from runicorn_remote.redaction import redactor

# Longer than any path, name or environment that works anywhere (PATH_MAX is 4096 bytes).
MAX_TEXT = 4096
# An RSA key of 16384 bits in PEM is 12,700 characters.
MAX_KEY_TEXT = 64 * 1024


class Text(fields.String):
    """A string without NUL and without lone surrogates, at most `max_length` characters."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own attribute
        "nul": "Must not hold a NUL character.",
        "surrogate": "Must be valid Unicode text.",
        "too_long": "Must be at most {max_length} characters.",
    }

    def __init__(self, *, max_length: int = MAX_TEXT, **kwargs: Any) -> None:
        # The length is checked below, with the rest, and documented here.
        kwargs["metadata"] = {"maxLength": max_length, **kwargs.get("metadata", {})}
        super().__init__(**kwargs)
        self.max_length = max_length

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if len(text) > self.max_length:
            raise self.make_error("too_long", max_length=self.max_length)
        if "\0" in text:
            raise self.make_error("nul")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self.make_error("surrogate") from error
        return text


class Secret(Text):
    """A password, passphrase or key text. Null and the empty string both mean: not given.

    Registered with the redactor the moment it is read, before anything can log it.
    """

    def __init__(self, *, max_length: int = MAX_TEXT, **kwargs: Any) -> None:
        kwargs.setdefault("load_default", None)
        kwargs.setdefault("allow_none", True)
        super().__init__(max_length=max_length, **kwargs)

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        if isinstance(value, str):
            redactor.register([value])
        return super().deserialize(value, attr, data, **kwargs) or None


class Responses(fields.List):
    """Answers to the questions of a login, secrets all; an empty one is an answer. Null means: none given."""

    def __init__(self, **kwargs: Any) -> None:
        # A bound beyond the prompts any host may show (`runicorn_remote.ssh.interactive`).
        kwargs.setdefault("validate", validate.Length(max=32))
        super().__init__(Text(max_length=1024), load_default=(), allow_none=True, **kwargs)

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        if isinstance(value, list):
            redactor.register(item for item in value if isinstance(item, str))
        return tuple(super().deserialize(value, attr, data, **kwargs) or ())


class OptionalText(Text):
    """Text that is the same null, empty or missing."""

    def __init__(self, *, max_length: int = MAX_TEXT, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, load_default=None, allow_none=True, **kwargs)

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        return super().deserialize(value, attr, data, **kwargs) or None


class LaunchArguments(fields.Dict):
    """For the launch command of a host: names and texts. Null and an empty object mean: none given."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {"description": "what fills the launch command that the server has for the host"}
        super().__init__(
            keys=Text(),
            values=Text(),
            validate=validate.Length(max=32),
            load_default=None,
            allow_none=True,
            metadata=metadata,
            **kwargs,
        )

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        return super().deserialize(value, attr, data, **kwargs) or None


class IdempotencyKey(fields.String):
    """A key in double quotes, as the draft of its RFC has it, or bare, as most clients send it.

    https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header, and the strings of
    RFC 8941, without their escapes. Two fields of the name arrive as one with a comma, and are refused.
    """

    _FORM = re.compile(r'"([ !#-\[\]-~]{1,255})"|([!#-+\--:<-\[\]-~]{1,255})')

    default_error_messages = {  # noqa: RUF012 - marshmallow's own attribute
        "form": "Must be 1 to 255 printable ASCII characters, without quotes and backslashes inside.",
    }

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        match = self._FORM.fullmatch(super()._deserialize(value, attr, data, **kwargs))
        if match is None:
            raise self.make_error("form")
        return match[1] or match[2]


class WholeNumber(fields.Integer):
    """An integer, or its decimal digits as text (old scripts send those). No booleans, no fractions."""

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise self.make_error("invalid", input=value)
        if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Port(WholeNumber):
    """A TCP port, 1-65535."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            validate=validate.Range(1, 65535, error="A port is a number from 1 to 65535."), **kwargs
        )


class Flag(fields.Boolean):
    """true or false; nothing that merely looks like it."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value
