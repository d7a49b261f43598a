"""Errors of a build."""

from __future__ import annotations

from runtimes.errors import BurnishError


class ExportError(BurnishError):
    """A model could not be exported; the message is the exporter's own."""


class Refused(ExportError):
    """A model can be exported, but the result would be wrong for inputs that the recipe allows.

    `share`: of the legal sizes for which it would be right, 0..1. Of several attempts that were
    refused, the one with the largest share is reported.
    """

    share: float = 0.0
