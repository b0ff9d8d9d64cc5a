"""What the viewer routes take and answer."""

from __future__ import annotations

from marshmallow import fields, validate

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.connections import CredentialsSchema
from runicorn_remote.api.schemas.fields import (
    Flag,
    IdempotencyKey,
    LaunchArguments,
    OptionalText,
    Port,
    Text,
    WholeNumber,
)
from runicorn_remote.services.viewer_log import MOST_LINES


class StartSchema(CredentialsSchema):
    remote_root = Text(required=True)
    local_port = Port(load_default=None, allow_none=True)
    remote_port = Port(load_default=None, allow_none=True)
    conda_env = OptionalText()
    launch_args = LaunchArguments()
    wait = Flag(
        load_default=True,
        metadata={"description": "false: answer 202 at once; the session tells how the start goes"},
    )


class StartHeadersSchema(Schema):
    idempotency_key = IdempotencyKey(
        data_key="Idempotency-Key",
        load_default=None,
        metadata={
            "description": "the same again: the session of the first request with it",
            "maxLength": 257,
        },
    )


class StopSchema(Schema):
    session_id = Text(required=True, max_length=1024)


class TunnelSchema(Schema):
    bytesIn = fields.Integer()
    bytesOut = fields.Integer()
    openConnections = fields.Integer()
    totalConnections = fields.Integer()


class PhaseSchema(Schema):
    """One step of a start."""

    name = fields.String(metadata={"enum": ["connecting", "preparing", "launching", "waiting", "ready"]})
    startedAt = fields.Integer(metadata={"description": "ms since the epoch"})
    seconds = fields.Float(allow_none=True, metadata={"description": "null while it lasts, and of `ready`"})


class SessionSchema(Schema):
    """One viewer: camelCase, as the frontend reads it."""

    sessionId = fields.String()
    host = fields.String()
    sshPort = fields.Integer()
    username = fields.String()
    localPort = fields.Integer()
    remotePort = fields.Integer(allow_none=True)
    remoteRoot = fields.String()
    remotePid = fields.Integer(allow_none=True)
    status = fields.String()
    startedAt = fields.Integer(metadata={"description": "ms since the epoch"})
    uptimeSeconds = fields.Float()
    isActive = fields.Boolean()
    url = fields.String()
    condaEnv = fields.String(allow_none=True)
    runicornVersion = fields.String(allow_none=True)
    node = fields.String(
        allow_none=True, metadata={"description": "the compute node it runs on; null: the host itself"}
    )
    error = fields.String(allow_none=True)
    errorCode = fields.String(allow_none=True)
    errorDetail = fields.Dict(
        allow_none=True,
        metadata={
            "description": "what a person has to decide on: the object that a 409 or 401 has as `detail`"
        },
    )
    phase = fields.String()
    phases = fields.List(fields.Nested(PhaseSchema))
    tunnel = fields.Nested(TunnelSchema)
    reconnects = fields.Integer()
    restarts = fields.Integer()
    lastHealthyAt = fields.Integer(allow_none=True, metadata={"description": "ms since the epoch"})


class StartedSchema(Schema):
    ok = fields.Boolean()
    session = fields.Nested(SessionSchema)
    message = fields.String()


class LogQuerySchema(Schema):
    tail = WholeNumber(load_default=100, validate=validate.Range(1, MOST_LINES))


class LogSchema(Schema):
    """The end of a viewer's log, oldest line first, without control characters."""

    sessionId = fields.String()
    lines = fields.List(fields.String())
    at = fields.Integer(metadata={"description": "when it was read, ms since the epoch"})
    live = fields.Boolean(metadata={"description": "false: as it was last seen; it cannot be read now"})


class SessionsSchema(Schema):
    sessions = fields.List(fields.Nested(SessionSchema))
