"""What cannot be in a recipe's `data:`, or is missing there for what its artifacts ask."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from converters.plan.plan import ArtifactPlan
from converters.recipe.data import SampleSource
from converters.recipe.document import Document, Problem
from converters.recipe.schema import Recipe
from converters.sources import torchvision_names
from runtimes.registry import nearest
from runtimes.spec import profile_shapes

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
        found: SampleSource | None = getattr(recipe.data, use)
        mark, key = document.mark(("data", use)), f"data.{use}"
        if found and found.images and recipe.preprocess is None:
            problems.append(Problem(mark, key, "pictures need `preprocess:` to become inputs"))
        if found and use == "evaluation" and found.random is not None:
            problems.append(Problem(mark, key, "noise is what the validator uses anyway: leave it out"))
    return problems


def calibration_problems(recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document) -> list[Problem]:
    """Artifacts that would be calibrated with nothing."""
    if recipe.data.calibration is not None:
        return []
    static = [one.name for one in artifacts if one.options.quantize and one.options.quantize.mode == "static"]
    return [Problem(document.mark(("artifacts", name)), f"artifacts.{name}.passes", _NO_DATA) for name in static]


def training_problems(recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document) -> list[Problem]:
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


def budget_problems(recipe: Recipe, artifacts: Sequence[ArtifactPlan], document: Document) -> Iterator[Problem]:
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


def _may_have_labels(source: SampleSource | None) -> bool:
    """Whether samples have labels, or bring them along: those of a factory are known when they are read."""
    return source is not None and (source.labels is not None or source.factory is not None)


def model_problems(document: Document) -> list[Problem]:
    model = document.data.get("model")
    if not isinstance(model, str):
        return []  # the schema has said so
    kind, _, rest = model.partition(":")
    mark = document.mark(("model",))
    if kind == "torchvision":
        names = torchvision_names()
        if names and rest not in names:
            return [
                Problem(mark, "model", f"torchvision has no classification model {rest!r}{nearest(rest, names)}")
            ]
        return []
    if kind == "python":
        module, _, factory = rest.partition(":")
        if not module or not factory.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
            return [Problem(mark, "model", "must look like python:package.module:factory")]
        return []
    return [Problem(mark, "model", "must be torchvision:NAME or python:package.module:factory")]


def gate_problems(recipe: Recipe, document: Document) -> list[Problem]:
    asked = [name for name in ("top1_agreement", "accuracy_drop") if getattr(recipe.gates, name) is not None]
    if recipe.task == "classification":
        return []
    why = "only a classifier has it: add `task: classification`"
    return [Problem(document.mark(("gates", name)), f"gates.{name}", why) for name in asked]


_LARGEST_INPUT = 1 << 28  # values; a gigabyte of float32


def output_problems(recipe: Recipe, document: Document) -> list[Problem]:
    names = recipe.outputs or ()
    mark = document.mark(("outputs",))
    return [Problem(mark, "outputs", f"{name!r} is named twice") for name in set(names) if names.count(name) > 1]


def dim_problems(recipe: Recipe, document: Document) -> list[Problem]:
    used = {size for spec in recipe.inputs.values() for size in spec.shape if isinstance(size, str)}
    problems = [
        Problem(
            document.mark(("inputs",)),
            f"dims.{name}",
            f"the dimension {name!r} has no range; add it to `dims:`",
        )
        for name in sorted(used - set(recipe.dims))
    ]
    problems += [
        Problem(document.mark(("dims", name)), f"dims.{name}", f"no input has this dimension{nearest(name, used)}")
        for name in recipe.dims
        if name not in used
    ]
    for name, spec in recipe.inputs.items():
        known = all(size in recipe.dims for size in spec.shape if isinstance(size, str))
        count = math.prod(profile_shapes(spec, recipe.dims)[-1]) if known else 0
        if count > _LARGEST_INPUT:
            why = f"at its largest this input has {count:.3g} values, and the validator runs it: lower the `max`"
            problems.append(Problem(document.mark(("inputs", name)), f"inputs.{name}", why))
    return problems
