"""Provenance of an artifact for its manifest, without folders, machine or time."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from converters.plan.plan import ArtifactPlan, Plan
from converters.recipe.order import model_passes
from converters.recipe.schema import Recipe
from converters.steps.dependencies import module_file
from runtimes.artifact.artifact import sha256
from runtimes.artifact.provenance import Origin, Provenance, SourceOrigin, StepRecord
from runtimes.machine.machine import burnish_version, python_version, versions

_NO_PARAMETERS = ("format", "gates", "passes")
"""Options of an artifact that are no parameters of its export: its name, its gates, other steps."""


def provenance(
    plan: Plan, artifact: ArtifactPlan, weights: Mapping[str, Any], state: str
) -> Provenance:
    """Return the provenance of an artifact.

    Args:
        plan: the recipe.
        artifact: one of its artifacts.
        weights: record of the loaded weights (`WeightsRecord.as_dict`).
        state: sha256 of the file of the loaded model's tensors.
    """
    recipe = plan.recipe
    code = _factory_digest(recipe.model, plan.folder)
    return Provenance(
        recipe=Origin(name=plan.name, sha256=recipe_digest(recipe)),
        source=SourceOrigin(model=recipe.model, args=recipe.args, sha256=code),
        weights=Origin(name=weights["source"], sha256=weights["sha256"]),
        state=state,
        steps=step_records(artifact),
        varies=artifact.exporter.varies(artifact.options),
        versions={"burnish": burnish_version(), "python": python_version(), **versions()},
    )


def recipe_digest(recipe: Recipe) -> str:
    """Return the sha256 of a recipe's meaning: JSON with every default, keys in order."""
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def step_records(artifact: ArtifactPlan) -> tuple[StepRecord, ...]:
    """Return the steps from the loaded model to the artifact: passes, ONNX graph, export."""
    options, exporter = artifact.options, artifact.exporter
    records = []
    for pass_options in model_passes(options.passes):
        name = pass_options.name
        records.append(StepRecord(name=name, parameters=_dumped(pass_options)[name]))
    graph = exporter.graph_options(options)
    if graph is not None:
        records.append(StepRecord(name="export-graph", parameters={"format": "onnx", **graph}))
    if options.quantize:
        records.append(StepRecord(name="quantize", parameters=_dumped(options.quantize)))
    parameters = {"format": exporter.format, **_dumped(options, _NO_PARAMETERS)}
    return (*records, StepRecord(name="export", parameters=parameters))


def _dumped(options: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude=set(without))  # type: ignore[no-any-return]


def _factory_digest(model: str, folder: Path) -> str | None:
    """Return the sha256 of the file of a `python:` model's factory; None for other models."""
    kind, _, target = model.partition(":")
    if kind != "python":
        return None
    file = module_file(target.partition(":")[0], (folder, *sys.path))
    return sha256(file) if file else None
