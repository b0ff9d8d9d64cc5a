"""Credentials, and what the connection routes take and answer."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import MAX_KEY_TEXT, Flag, OptionalText, Port, Responses, Secret, Text
from runicorn_remote.services.connections import Login


class CredentialsSchema(Schema):
    """Host and account with what proves it, or a saved server that supplies what is missing."""

    host = OptionalText(max_length=1024)
    port = Port(load_default=None, allow_none=False)
    username = OptionalText(max_length=1024)
    password = Secret()
    private_key = Secret(max_length=MAX_KEY_TEXT)
    private_key_path = OptionalText()
    passphrase = Secret()
    use_agent = Flag(load_default=True)
    saved_server_id = OptionalText(max_length=1024)
    challenge_id = OptionalText(max_length=100)
    responses = Responses()

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def require_host(self, data: dict[str, Any], original: Any, **kwargs: Any) -> None:
        """Without a saved server, host and user name have to be there."""
        # Asked of what was sent: a field that is there and has another fault is not missing.
        if not isinstance(original, dict) or not _is_absent(original, "saved_server_id"):
            return
        missing = [name for name in ("host", "username") if _is_absent(original, name)]
        if missing:
            raise ValidationError({name: ["Missing data for required field."] for name in missing})

    @post_load
    def make_login(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Gather the credentials in one object, so that views never hold a bare secret."""
        names = CredentialsSchema._declared_fields
        login = Login(**{name: data.pop(name) for name in names})
        return {"login": login, **data}


def _is_absent(sent: dict[str, Any], name: str) -> bool:
    return sent.get(name) in (None, "")


class DisconnectSchema(Schema):
    host = Text(required=True, max_length=1024)
    port = Port(load_default=22)
    username = Text(required=True, max_length=1024)
    stop_viewers = Flag(load_default=False)


class ConnectedSchema(Schema):
    ok = fields.Boolean()
    connection_id = fields.String()
    host = fields.String()
    port = fields.Integer()
    username = fields.String()
    connected = fields.Boolean()


class OkSchema(Schema):
    ok = fields.Boolean()
    message = fields.String()


class ConnectionSchema(Schema):
    key = fields.String()
    host = fields.String()
    port = fields.Integer()
    username = fields.String()
    connected = fields.Boolean()


class ConnectionsSchema(Schema):
    sessions = fields.List(fields.Nested(ConnectionSchema))
