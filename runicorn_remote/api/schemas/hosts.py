"""What the routes about a whole host take and answer."""

from __future__ import annotations

from marshmallow import fields

from runicorn_remote.api.base import Schema
from runicorn_remote.api.schemas.fields import OptionalText


class ResourcesQuerySchema(Schema):
    storage_root = OptionalText(metadata={"description": "whose disk; that of new runs if it is missing"})


class HostMemorySchema(Schema):
    totalBytes = fields.Integer(attribute="total")
    availableBytes = fields.Integer(attribute="available")


class HostDiskSchema(Schema):
    path = fields.String(allow_none=True)
    totalBytes = fields.Integer(attribute="total")
    freeBytes = fields.Integer(attribute="available", metadata={"description": "to this account"})


class HostGpuSchema(Schema):
    index = fields.Integer()
    name = fields.String()
    memoryTotalBytes = fields.Integer(attribute="memory_total", allow_none=True)
    memoryUsedBytes = fields.Integer(attribute="memory_used", allow_none=True)
    utilizationPercent = fields.Integer(attribute="utilization", allow_none=True)


class ResourcesSchema(Schema):
    """Null is what the host does not tell."""

    ok = fields.Constant(True)
    connectionId = fields.String()
    hostname = fields.String(attribute="found.hostname", allow_none=True)
    platform = fields.String(attribute="found.platform", allow_none=True)
    cpus = fields.Integer(attribute="found.cpus", allow_none=True)
    loadAverage = fields.List(
        fields.Float(),
        attribute="found.load",
        allow_none=True,
        metadata={"description": "over 1, 5 and 15 minutes"},
    )
    uptimeSeconds = fields.Float(attribute="found.uptime", allow_none=True)
    memory = fields.Nested(HostMemorySchema, attribute="found.memory", allow_none=True)
    disk = fields.Nested(HostDiskSchema, attribute="found.disk", allow_none=True)
    diskError = fields.String(attribute="found.disk_error", allow_none=True)
    gpus = fields.List(
        fields.Nested(HostGpuSchema),
        attribute="found.gpus",
        allow_none=True,
        metadata={"description": "empty without NVIDIA's tool; null if it fails, gpuError says why"},
    )
    gpuError = fields.String(attribute="found.gpu_error", allow_none=True)
