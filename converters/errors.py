"""Errors of a build."""

from __future__ import annotations

from runtimes.errors import BurnishError


class ExportError(BurnishError):
    """A model could not be exported; the message is the exporter's own."""
