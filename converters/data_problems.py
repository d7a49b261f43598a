"""What cannot be in a recipe's `data:`, or is missing there for what its artifacts ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from converters.document import Document, Problem

if TYPE_CHECKING:
    from converters.recipe import Artifact, Recipe, Samples

_NO_DATA = (
    "static quantization finds its ranges on samples: add `data: {calibration: {images: FOLDER}}` (or arrays: "
    "FILE, factory: python:module:function; `random: 0` calibrates for noise, which real inputs are not)"
)
_NO_LABELS = (
    "metric: top1 is accuracy on labels: name them in `data: {evaluation: {labels: ...}}` (folder, prefix or a CSV "
    "file for pictures, the name of an array for arrays), or use metric: agreement, which needs none"
)
_NOTHING_TO_LEARN_FROM = (
    "this pass learns from samples: add `data: {training: {images: FOLDER}}` (or arrays: FILE, factory: "
    "python:module:function); labels are not needed"
)
_NO_CLASSIFIER = "only a classifier has it: add `task: classification`, or use metric: sqnr"


def data_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """What is wrong with the sources of samples."""
    problems = []
    for use in ("calibration", "training", "evaluation"):
        found: Samples | None = getattr(recipe.data, use)
        mark, key = document.mark(("data", use)), f"data.{use}"
        if found and found.images and recipe.preprocess is None:
            problems.append(Problem(mark, key, "pictures need `preprocess:` to become inputs"))
        if found and use == "evaluation" and found.random is not None:
            problems.append(Problem(mark, key, "noise is what the validator uses anyway: leave it out"))
    return problems


def calibration_problems(recipe: Recipe, artifacts: Sequence[Artifact], document: Document) -> list[Problem]:
    """Artifacts that would be calibrated with nothing."""
    if recipe.data.calibration is not None:
        return []
    static = [one.name for one in artifacts if one.options.quantize and one.options.quantize.mode == "static"]
    return [Problem(document.mark(("artifacts", name)), f"artifacts.{name}.passes", _NO_DATA) for name in static]


def training_problems(recipe: Recipe, artifacts: Sequence[Artifact], document: Document) -> list[Problem]:
    """Artifacts whose passes would learn from nothing."""
    if recipe.data.training or recipe.data.calibration:
        return []
    learning = [
        artifact.name
        for artifact in artifacts
        if any(one.recover or (one.prune and one.prune.importance == "taylor") for one in artifact.options.passes)
    ]
    return [
        Problem(document.mark(("artifacts", name)), f"artifacts.{name}.passes", _NOTHING_TO_LEARN_FROM)
        for name in learning
    ]


def budget_problems(recipe: Recipe, artifacts: Sequence[Artifact], document: Document) -> Iterator[Problem]:
    """Accuracy budgets in a metric that the recipe's model or data cannot have."""
    for one in artifacts:
        quantize, mark = one.options.quantize, document.mark(("artifacts", one.name, "passes"))
        if quantize is None or quantize.max_drop is None or quantize.metric == "sqnr":
            continue
        where = f"artifacts.{one.name}.passes"
        if recipe.task != "classification":
            yield Problem(mark, where, f"metric: {quantize.metric}: {_NO_CLASSIFIER}")
        if quantize.metric == "top1" and not _may_have_labels(recipe.data.evaluation):
            yield Problem(mark, where, _NO_LABELS)


def _may_have_labels(source: Samples | None) -> bool:
    """Whether samples have labels, or bring them along: those of a factory are known when they are read."""
    return source is not None and (source.labels is not None or source.factory is not None)
