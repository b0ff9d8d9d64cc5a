"""What `/status` answers."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.connections import ConnectionSchema
from runicorn_remote.api.schemas.viewers import SessionSchema


class StatusSchema(Schema):
    connections = fields.List(fields.Nested(ConnectionSchema))
    viewer_sessions = fields.List(fields.Nested(SessionSchema))
    connection_count = fields.Integer()
    viewer_session_count = fields.Integer()
