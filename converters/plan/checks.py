"""Checks of a recipe across its keys: contradictions, and what its artifacts need but it lacks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from converters.plan.plan import ArtifactPlan
from converters.recipe.data import SampleSource
from converters.recipe.document import Document, Problem
from converters.recipe.schema import Recipe
from converters.sources import torchvision_names
from runtimes.registry import nearest
from runtimes.spec import TensorSpec, profile_shapes

_NO_CALIBRATION_DATA = (
    "static quantization needs calibration data: add `data: {calibration: {images: FOLDER}}` (or "
    "arrays: FILE, factory: python:module:function; `random: 0` calibrates on noise, which is not "
    "representative of real inputs)"
)
_NO_LABELS = (
    "metric: top1 is accuracy on labels, and the evaluation data has none: add "
    "`data: {evaluation: {labels: ...}}` (folder, prefix or a CSV file for images, the name of an "
    "array for arrays), or use metric: agreement, which needs no labels"
)
_NO_METRIC = (
    "metric: user is the recipe's own `metric:`, and there is none: add `metric: "
    "python:module:function`"
)
_NO_TRAINING_DATA = (
    "this pass needs training data: add `data: {training: {images: FOLDER}}` (or arrays: FILE, "
    "factory: python:module:function); labels are not needed"
)
_NEEDS_CLASSIFIER = "needs a classifier: add `task: classification`"

_MAX_INPUT_VALUES = 1 << 28  # a gigabyte of float32


def data_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """Return the problems of the sources of samples."""
    problems = []
    for use in ("calibration", "training", "evaluation"):
        source: SampleSource | None = getattr(recipe.data, use)
        if source is None:
            continue
        mark, key = document.mark(("data", use)), f"data.{use}"
        if source.images and recipe.preprocess is None:
            message = "images need `preprocess:` to become inputs of the model"
            problems.append(Problem(mark, key, message))
        if use == "evaluation" and source.random is not None:
            message = "the validator uses noise by default: remove `data.evaluation`"
            problems.append(Problem(mark, key, message))
    return problems


def calibration_problems(
    recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document
) -> list[Problem]:
    """Return the artifacts with static quantization, if there is no calibration data."""
    if recipe.data.calibration is not None:
        return []
    problems = []
    for artifact in artifacts:
        quantize = artifact.options.quantize
        if quantize and quantize.mode == "static":
            problems.append(_passes_problem(artifact, document, _NO_CALIBRATION_DATA))
    return problems


def training_problems(
    recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document
) -> list[Problem]:
    """Return the artifacts whose passes train, if there is no training data."""
    if recipe.data.training or recipe.data.calibration:
        return []
    problems = []
    for artifact in artifacts:
        if _needs_training_data(artifact):
            problems.append(_passes_problem(artifact, document, _NO_TRAINING_DATA))
    return problems


def _needs_training_data(artifact: ArtifactPlan) -> bool:
    for options in artifact.options.passes:
        if options.recover or (options.prune and options.prune.importance == "taylor"):
            return True
    return False


def _passes_problem(artifact: ArtifactPlan, document: Document, message: str) -> Problem:
    mark = document.mark(("artifacts", artifact.name))
    return Problem(mark, f"artifacts.{artifact.name}.passes", message)


def budget_problems(
    recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document
) -> Iterator[Problem]:
    """Yield the accuracy budgets in a metric that the recipe's model or data does not have."""
    for artifact in artifacts:
        quantize = artifact.options.quantize
        if quantize is None or quantize.max_drop is None or quantize.metric == "sqnr":
            continue
        mark = document.mark(("artifacts", artifact.name, "passes"))
        key = f"artifacts.{artifact.name}.passes"
        if quantize.metric == "user":
            if recipe.metric is None:
                yield Problem(mark, key, _NO_METRIC)
            continue
        if recipe.task != "classification":
            message = f"metric: {quantize.metric} {_NEEDS_CLASSIFIER}, or use metric: sqnr or user"
            yield Problem(mark, key, message)
        if quantize.metric == "top1" and not _may_have_labels(recipe.data.evaluation):
            yield Problem(mark, key, _NO_LABELS)


def _may_have_labels(source: SampleSource | None) -> bool:
    """Return whether samples may have labels; those of a factory are known when they are read."""
    return source is not None and (source.labels is not None or source.factory is not None)


def model_problems(document: Document) -> list[Problem]:
    """Return the problem of `model:`, if it names no model."""
    model = document.data.get("model")
    if not isinstance(model, str):
        return []  # the schema reports it
    kind, _, target = model.partition(":")
    message = "must be torchvision:NAME or python:package.module:factory"
    if kind == "torchvision":
        names = torchvision_names()
        if not names or target in names:
            return []
        suggestion = nearest(target, names)
        message = f"torchvision has no classification model {target!r}{suggestion}"
    elif kind == "python":
        if _is_factory(target):
            return []
        message = "must look like python:package.module:factory"
    return [Problem(document.mark(("model",)), "model", message)]


def _is_factory(target: str) -> bool:
    """Return whether a text looks like package.module:factory."""
    module, _, factory = target.partition(":")
    return factory.isidentifier() and all(part.isidentifier() for part in module.split("."))


def gate_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """Return the gates that only a classifier can have, if the model is none."""
    if recipe.task == "classification":
        return []
    problems = []
    for name in ("top1_agreement", "accuracy_drop"):
        if getattr(recipe.gates, name) is not None:
            mark = document.mark(("gates", name))
            problems.append(Problem(mark, f"gates.{name}", _NEEDS_CLASSIFIER))
    return problems


def output_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """Return the names of outputs that occur twice."""
    mark = document.mark(("outputs",))
    problems = []
    for name, times in Counter(recipe.outputs or ()).items():
        if times > 1:
            problems.append(Problem(mark, "outputs", f"{name!r} is named twice"))
    return problems


def dim_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """Return dimensions without a range, ranges without a dimension, inputs that are too large."""
    used: set[str] = set()
    for spec in recipe.inputs.values():
        used |= _dims_of(spec)
    problems = []
    for name in sorted(used - set(recipe.dims)):
        message = f"the dimension {name!r} has no range; add it to `dims:`"
        problems.append(Problem(document.mark(("inputs",)), f"dims.{name}", message))
    for name in recipe.dims:
        if name not in used:
            message = f"no input has this dimension{nearest(name, used)}"
            problems.append(Problem(document.mark(("dims", name)), f"dims.{name}", message))
    return problems + _size_problems(recipe, document)


def _dims_of(spec: TensorSpec) -> set[str]:
    """Return the named dimensions of an input."""
    return {size for size in spec.shape if isinstance(size, str)}


def _size_problems(recipe: Recipe, document: Document) -> list[Problem]:
    """Return the inputs that are too large to run at the maximum of their dimensions."""
    problems = []
    for name, spec in recipe.inputs.items():
        if _dims_of(spec) - set(recipe.dims):
            continue  # reported already
        count = math.prod(profile_shapes(spec, recipe.dims)[-1])
        if count > _MAX_INPUT_VALUES:
            message = (
                f"at its maximum size this input has {count:.3g} values, and the validator runs "
                "it: lower the `max` of its dimensions"
            )
            problems.append(Problem(document.mark(("inputs", name)), f"inputs.{name}", message))
    return problems
