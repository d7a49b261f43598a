"""The manifest of an artifact whose files a test has exported."""

from __future__ import annotations

from typing import Any

from converters.exporters.job import Exported
from converters.models.facts import ModelFacts
from runtimes.artifact.artifact import Manifest


def exported_manifest(
    exported: Exported, facts: ModelFacts, format: str, **changes: object
) -> Manifest:
    """A manifest of a format that runs on the CPU; `changes`: fields by name."""
    fields: dict[str, Any] = {
        "burnish": "test",
        "name": format,
        "format": format,
        "runtime": format,
        "entry": exported.entry,
        "devices": ("cpu",),
        "model": "test",
        "inputs": facts.inputs,
        "outputs": facts.outputs,
        "dims": facts.dims,
        "build": exported.build,
    }
    return Manifest(**{**fields, **changes})
