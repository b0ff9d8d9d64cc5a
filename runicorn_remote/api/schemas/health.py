"""What `/api/health` answers."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema


class ServerSchema(Schema):
    name = fields.String()
    version = fields.String()


class HealthSchema(Schema):
    status = fields.String()
    version = fields.String()
    server = fields.Nested(ServerSchema)
