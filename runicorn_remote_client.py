"""The import name users' scripts know: `from runicorn_remote_client import RunicornRemoteClient`."""

from runicorn_remote.client import *  # noqa: F403
from runicorn_remote.client import RunicornRemoteClient as RunicornRemoteClient
from runicorn_remote.client import __all__ as __all__
