"""What the routes about environments take and answer.

`conda-envs` spells two of its fields twice: scripts read the one, the web page the other.
"""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import Text

ADVICE = "for a person, if runicorn is missing there, or older or newer than ours in a way that matters"


class ConnectionQuerySchema(Schema):
    connection_id = Text(required=True, max_length=2048)


class ConfigQuerySchema(ConnectionQuerySchema):
    conda_env = Text(load_default="system", metadata={"description": "a name, or an absolute path"})


class StorageCandidatesQuerySchema(ConfigQuerySchema):
    scan_root = Text(load_default="", metadata={"description": "the home directory if empty"})
    max_depth = fields.Integer(load_default=3, metadata={"description": "clamped to 1-8"})


class EnvironmentSchema(Schema):
    name = fields.String()
    type = fields.String(
        metadata={"description": "conda, system, venv, virtualenv, pyenv, uv, poetry or pixi"}
    )
    python_version = fields.String(metadata={"example": "Python 3.11.7"})
    path = fields.String(metadata={"description": "the absolute interpreter"})
    is_default = fields.Boolean()
    pythonVersion = fields.String(attribute="python_version", dump_only=True)
    isDefault = fields.Boolean(attribute="is_default", dump_only=True)


class EnvironmentsSchema(Schema):
    ok = fields.Boolean()
    envs = fields.List(fields.Nested(EnvironmentSchema))


class EnvironmentVersionsSchema(Schema):
    pythonVersion = fields.String()
    runicornVersion = fields.String(allow_none=True)
    advice = fields.String(allow_none=True, metadata={"description": ADVICE})


class EnvironmentConfigsSchema(Schema):
    ok = fields.Boolean()
    configs = fields.Dict(keys=fields.String(), values=fields.Nested(EnvironmentVersionsSchema))


class ConfigSchema(Schema):
    ok = fields.Boolean()
    condaEnv = fields.String()
    pythonVersion = fields.String()
    runicornVersion = fields.String(allow_none=True)
    defaultStorageRoot = fields.String()
    storageRootExists = fields.Boolean()
    suggestedRemotePort = fields.Integer()
    connectionId = fields.String()
    homeDirectory = fields.String()
    advice = fields.String(allow_none=True, metadata={"description": ADVICE})


class StorageCandidateSchema(Schema):
    path = fields.String()
    run_count = fields.Integer()
    has_archive = fields.Boolean()
    has_index = fields.Boolean()
    score = fields.Integer()


class StorageCandidatesSchema(Schema):
    scan_root = fields.String()
    max_depth = fields.Integer()
    candidates = fields.List(fields.Nested(StorageCandidateSchema))
    truncated = fields.Boolean(metadata={"description": "the search ended before it had seen everything"})
