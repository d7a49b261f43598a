"""Errors of the build."""

from __future__ import annotations

from runtimes.errors import BurnishError


class ExportError(BurnishError):
    """A model could not be written in a format; the message has the exporter's own words."""
