"""What the known-hosts routes take and answer."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import Port, Text

_MAX_PUBLIC_KEY = 8192


class AcceptSchema(Schema):
    """The values of a 409's `host_key`, unchanged."""

    host = Text(required=True, max_length=1024)
    port = Port(required=True)
    key_type = Text(required=True, max_length=1024)
    public_key = Text(
        required=True, max_length=_MAX_PUBLIC_KEY, metadata={"description": "key type and base64, one line"}
    )
    fingerprint_sha256 = Text(required=True, max_length=1024)


class AcceptedSchema(Schema):
    ok = fields.Boolean()


class RemoveSchema(Schema):
    """Host, port and type of an entry that `list` shows."""

    host = Text(required=True)
    port = Port(required=True)
    key_type = Text(required=True, max_length=1024)


class RemovedSchema(Schema):
    ok = fields.Boolean()
    changed = fields.Boolean(metadata={"description": "whether there was such a key"})


class EntrySchema(Schema):
    host = fields.String()
    port = fields.Integer()
    known_hosts_host = fields.String(metadata={"description": "the name as it stands in the file"})
    key_type = fields.String()
    key_base64 = fields.String()
    fingerprint_sha256 = fields.String()


class EntriesSchema(Schema):
    entries = fields.List(fields.Nested(EntrySchema))
