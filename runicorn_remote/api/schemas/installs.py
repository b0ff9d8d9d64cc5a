"""What the routes that install runicorn take and answer."""

from __future__ import annotations

from marshmallow import fields, validate

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import Flag, OptionalText, Text


class InstallSchema(Schema):
    connection_id = Text(required=True, max_length=2048)
    conda_env = OptionalText(
        metadata={
            "description": "a name of /conda-envs, or a path; an environment of its own if it is missing"
        }
    )
    version = OptionalText(max_length=100, metadata={"description": "that of the server's own runicorn"})
    wait = Flag(load_default=False, metadata={"description": "answer when it is over"})


class InstallQuerySchema(Schema):
    after = fields.Integer(
        load_default=0,
        validate=validate.Range(0, 10**9),
        metadata={"description": "the nextLine of an earlier answer: only lines since then"},
    )


class InstallResultSchema(Schema):
    condaEnv = fields.String(metadata={"description": "what /viewer/start takes"})
    python = fields.String(metadata={"description": "the absolute interpreter"})
    runicornVersion = fields.String()
    source = fields.String(metadata={"description": "index, or wheels: packages that were copied there"})


class InstallJobSchema(Schema):
    installId = fields.String()
    connectionId = fields.String()
    condaEnv = fields.String(allow_none=True)
    version = fields.String()
    state = fields.String(metadata={"description": "running, done, failed or cancelled"})
    phase = fields.String(metadata={"description": "preparing, installing, downloading, copying or done"})
    startedAt = fields.Integer(metadata={"description": "ms since the epoch"})
    elapsedSeconds = fields.Float()
    lines = fields.List(fields.String())
    nextLine = fields.Integer()
    result = fields.Nested(InstallResultSchema, allow_none=True)
    error = fields.String(allow_none=True)
    errorCode = fields.String(allow_none=True)
    hint = fields.String(allow_none=True)


class InstallAnswerSchema(Schema):
    ok = fields.Boolean()
    install = fields.Nested(InstallJobSchema)
