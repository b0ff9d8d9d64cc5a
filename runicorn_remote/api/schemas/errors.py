"""The shapes of errors, for the documentation: `runicorn_remote.api.errors` makes the answers."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema


class ErrorSchema(Schema):
    """Every error but a validation failure and a host key that has to be confirmed."""

    detail = fields.String(required=True, metadata={"description": "a sentence for a person"})
    code = fields.String(
        required=True, metadata={"description": "a stable word to branch on", "example": "AUTH_FAILED"}
    )
    hint = fields.String(metadata={"description": "what to do"})


class FaultSchema(Schema):
    loc = fields.List(
        fields.Raw(metadata={"oneOf": [{"type": "string"}, {"type": "integer"}]}),
        required=True,
        metadata={"example": ["body", "host"]},
    )
    msg = fields.String(required=True, metadata={"example": "Missing data for required field."})
    type = fields.String(required=True, metadata={"example": "missing"})


class ValidationErrorSchema(Schema):
    """A missing or ill-typed field; all faults at once, without the values that were sent."""

    detail = fields.List(fields.Nested(FaultSchema), required=True)
    code = fields.String(required=True, metadata={"example": "VALIDATION_FAILED"})


class HostKeySchema(Schema):
    host = fields.String(required=True)
    port = fields.Integer(required=True)
    known_hosts_host = fields.String(required=True, metadata={"example": "[gpu1]:2222"})
    key_type = fields.String(required=True, metadata={"example": "ssh-ed25519"})
    fingerprint_sha256 = fields.String(required=True, metadata={"example": "SHA256:…"})
    public_key = fields.String(required=True, metadata={"example": "ssh-ed25519 AAAA…"})
    reason = fields.String(required=True, metadata={"enum": ["unknown", "changed"]})
    expected_fingerprint_sha256 = fields.String()
    expected_public_key = fields.String()


class HostKeyQuestionSchema(Schema):
    code = fields.String(required=True, metadata={"example": "HOST_KEY_CONFIRMATION_REQUIRED"})
    message = fields.String(required=True)
    host_key = fields.Nested(HostKeySchema, required=True)


class PromptSchema(Schema):
    prompt = fields.String(required=True, metadata={"example": "Verification code: "})
    echo = fields.Boolean(required=True, metadata={"description": "whether the answer may be shown"})


class ChallengeSchema(Schema):
    """What the host asks; send the request again with `challenge_id` and one of `responses` a prompt."""

    code = fields.String(required=True, metadata={"example": "INTERACTIVE_AUTH_REQUIRED"})
    message = fields.String(required=True)
    challenge_id = fields.String(required=True)
    host = fields.String(required=True)
    port = fields.Integer(required=True)
    username = fields.String(required=True)
    name = fields.String(required=True)
    instructions = fields.String(required=True)
    prompts = fields.List(fields.Nested(PromptSchema), required=True)
    expires_in = fields.Float(required=True, metadata={"description": "seconds"})


class UnauthorizedSchema(Schema):
    """A token is missing (`detail` is a sentence), or a host asks what a person has to answer (an object)."""

    detail = fields.Raw(
        required=True,
        metadata={"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/Challenge"}]},
    )
    code = fields.String(required=True, metadata={"example": "TOKEN_REQUIRED"})
    hint = fields.String()


class ConflictSchema(Schema):
    """A host key to confirm (`detail` is an object), or a local port in use (`detail` is a sentence)."""

    detail = fields.Raw(
        required=True,
        metadata={"oneOf": [{"type": "string"}, {"$ref": "#/components/schemas/HostKeyQuestion"}]},
    )
    code = fields.String(required=True, metadata={"example": "HOST_KEY_CONFIRMATION_REQUIRED"})
    hint = fields.String()
