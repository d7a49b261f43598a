"""What an artifact's manifest says of its origin, from the recipe alone: no folder, machine or time is in it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from converters.plan.plan import ArtifactPlan, Plan
from converters.recipe.order import on_the_model
from converters.recipe.schema import Recipe
from converters.steps.trace import module_file
from runtimes.artifact.artifact import sha256
from runtimes.artifact.provenance import Origin, Provenance, SourceOrigin, StepRecord
from runtimes.machine.machine import burnish_version, python_version, versions

_NO_PARAMETERS = ("format", "gates", "passes")
"""Options of an artifact that are no parameters of its export: its name for it, the verdict's, and other steps."""


def provenance(plan: Plan, artifact: ArtifactPlan, weights: Mapping[str, Any], state: str) -> Provenance:
    """Where an artifact comes from.

    Args:
        plan: the recipe.
        artifact: which of its artifacts.
        weights: the record of those that were found (`WeightsRecord.as_dict`).
        state: sha256 of the file of the loaded model's tensors.
    """
    recipe = plan.recipe
    return Provenance(
        recipe=Origin(name=plan.name, sha256=recipe_digest(recipe)),
        source=SourceOrigin(model=recipe.model, args=recipe.args, sha256=_source_digest(recipe.model, plan.folder)),
        weights=Origin(name=weights["source"], sha256=weights["sha256"]),
        state=state,
        steps=steps(artifact),
        varies=artifact.exporter.varies(artifact.options),
        versions={"burnish": burnish_version(), "python": python_version(), **versions()},
    )


def recipe_digest(recipe: Recipe) -> str:
    """sha256 of what a recipe asks for, however it is written: JSON with every default, keys in order."""
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def steps(artifact: ArtifactPlan) -> tuple[StepRecord, ...]:
    """What is done between the loaded model and the artifact's files: passes, the ONNX graph, the export."""
    options, exporter = artifact.options, artifact.exporter
    graph = exporter.graph_options(options)
    found = [StepRecord(name=one.name, parameters=_dumped(one)[one.name]) for one in on_the_model(options.passes)]
    if graph is not None:
        found.append(StepRecord(name="export-graph", parameters={"format": "onnx", **graph}))
    if options.quantize:
        found.append(StepRecord(name="quantize", parameters=_dumped(options.quantize)))
    asked = {"format": exporter.format, **_dumped(options, _NO_PARAMETERS)}
    return (*found, StepRecord(name="export", parameters=asked))


def _dumped(options: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude=set(without))  # type: ignore[no-any-return]


def _source_digest(model: str, folder: Path) -> str | None:
    """sha256 of the file that a `python:` model's factory is in; None for others, or where there is none."""
    kind, _, rest = model.partition(":")
    file = module_file(rest.partition(":")[0], (folder, *sys.path)) if kind == "python" else None
    return sha256(file) if file else None
