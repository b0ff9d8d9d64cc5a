"""What the file routes take and answer."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import Text


class ListQuerySchema(Schema):
    connection_id = Text(required=True, max_length=2048)
    path = Text(load_default="~")


class ExistsQuerySchema(Schema):
    connection_id = Text(required=True, max_length=2048)
    path = Text(required=True)


class ItemSchema(Schema):
    name = fields.String()
    is_dir = fields.Boolean()
    size = fields.Integer(metadata={"description": "bytes; 0 for a directory"})
    mtime = fields.Integer(metadata={"description": "seconds since the epoch"})


class ListingSchema(Schema):
    path = fields.String()
    items = fields.List(fields.Nested(ItemSchema))
    truncated = fields.Boolean(metadata={"description": "only when there are more entries than are listed"})


class ExistsSchema(Schema):
    path = fields.String()
    exists = fields.Boolean()
    is_dir = fields.Boolean()
