"""Saved entries, for the documentation.

Nothing is converted or dropped here: clients keep fields of their own in an entry, and a fault a
person can cause in a form deserves a sentence, which the service gives.
"""

from __future__ import annotations

from typing import Any

import marshmallow
from marshmallow import fields, post_load

from runicorn_remote.api.base import Schema


def _documented(description: str, kind: str = "string", **options: Any) -> fields.Raw:
    return fields.Raw(allow_none=True, metadata={"description": description, "type": kind}, **options)


class SavedEntrySchema(Schema):
    class Meta:
        unknown = marshmallow.INCLUDE

    kind = _documented("server or connection")
    id = _documented("Unique among the entries of its kind")
    name = _documented("What the user calls it")
    createdAt = _documented("Milliseconds since the epoch", "integer")

    host = _documented("server: host name or address")
    port = _documented("server: SSH port, by default 22", "integer")
    username = _documented("server: who logs in")
    authMethod = _documented("server: password or key")
    privateKeyPath = _documented("server: private key file on the machine of this API")
    password = _documented("server: kept if absent, forgotten if null", load_only=True)
    private_key = _documented("server: text of a key; kept if absent, forgotten if null", load_only=True)
    passphrase = _documented("server: of the key; kept if absent, forgotten if null", load_only=True)
    hasSavedPassword = _documented("server: false without a password forgets it", "boolean")
    hasSavedPrivateKey = _documented("server: false without a key or path forgets both", "boolean")
    hasSavedPassphrase = _documented("server: false without a passphrase forgets it", "boolean")

    serverId = _documented("connection: the id of its server")
    condaEnv = _documented("connection: name of the Python environment")
    remoteRoot = _documented("connection: storage root on the host")
    localPort = _documented("connection: null chooses one", "integer")
    remotePort = _documented("connection: null chooses one", "integer")

    @post_load(pass_original=True)
    def keep_as_sent(self, data: dict[str, Any], original: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The entry with all its fields, in their order."""
        return original


class SavedConnectionsSchema(Schema):
    ok = fields.Boolean()
    connections = fields.List(
        fields.Dict(), metadata={"description": "Entries as they are posted, without their secrets"}
    )


class SavedSchema(Schema):
    ok = fields.Boolean()
    message = fields.String()
    warning = fields.String(
        metadata={"description": "Only if secrets were not saved, because of the setting store_secrets"}
    )
