"""Runicorn's Remote API as a server of its own."""

from runicorn_remote._version import __version__

__all__ = ["__version__"]
