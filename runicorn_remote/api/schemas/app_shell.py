"""What the web page's shell asks outside `/api/remote`."""

from __future__ import annotations

from marshmallow import fields, validate

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import Text


class ShellConfigSchema(Schema):
    user_root_dir = fields.String()
    storage = fields.String()
    config_file = fields.String()
    home_directory = fields.String()


class DismissedSchema(Schema):
    dismissed_alerts = fields.List(fields.String())


class AlertSchema(Schema):
    alert_id = Text(required=True, max_length=200)


class WidthsQuerySchema(Schema):
    table = Text(required=True, max_length=100)
    size = Text(required=True, max_length=100)


class WidthsSchema(WidthsQuerySchema):
    widths = fields.Dict(
        keys=Text(max_length=100),
        values=fields.Integer(strict=True),
        required=True,
        validate=validate.Length(max=100),
    )


class GpuSchema(Schema):
    available = fields.Boolean()
    reason = fields.String()
    gpus = fields.List(fields.Dict())


class GpuHistorySchema(Schema):
    available = fields.Boolean()
    enabled = fields.Boolean()
    samples = fields.List(fields.Dict())


class GpuConfigSchema(Schema):
    enabled = fields.Boolean()
    interval_sec = fields.Integer()
    max_duration_h = fields.Integer()


class PathsSchema(Schema):
    paths = fields.List(fields.String())
    tree = fields.Dict()
    stats = fields.Dict()


class RunSchema(Schema):
    id = fields.String()
