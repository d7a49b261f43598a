"""What a recipe's samples are used for: probes of the validator, and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.samples import Pool, Sample, open_pool
from converters.recipe.schema import Recipe
from runtimes.errors import InputError, UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays, Specs, best_sizes
from runtimes.validator.defaults import PICTURES
from runtimes.validator.probes import Probe, synthetic_samples, with_limits

UNREADABLE_SHARE = 0.01
"""More samples than this that cannot be read fail the run."""

CALIBRATION = 100
"""Samples to calibrate with where the recipe does not say: ranges settle within some hundred."""

Warn = Callable[[str], object]


def probes(recipe: Recipe, folder: Path, warn: Warn = lambda note: None, classes: int | None = None) -> list[Probe]:
    """The recipe's samples where it names some, else seeded noise; both with other sizes and edge values.

    `warn` is told of each sample that was left out; `classes` as in `evaluation_samples`.
    """
    if recipe.data.evaluation is None:
        samples = synthetic_samples(recipe.inputs, recipe.dims, recipe.seed)
    else:
        samples = _batches(recipe, evaluation_samples(recipe, folder, warn, classes))
    return with_limits(samples, recipe.inputs, recipe.dims, recipe.seed)


def evaluation_samples(
    recipe: Recipe, folder: Path, warn: Warn = lambda note: None, classes: int | None = None
) -> list[Sample]:
    """What artifacts are judged on: never a sample that calibrates.

    Args:
        recipe: names the samples.
        folder: its own.
        warn: told of each sample that was left out.
        classes: how many the model tells apart, where it is known and labels must fit it.

    Raises:
        UsageError: there are none, they or their labels do not fit the model, or more than 1 % cannot be read.
    """
    source = recipe.data.evaluation
    assert source is not None  # asked only where the recipe has it
    pool = open_pool(recipe, source, folder)
    picked = _judging(recipe, folder)
    if not picked:
        raise UsageError("data: every sample calibrates, none is left to judge with: lower calibration's `samples`")
    samples = list(_readable(pool, picked, recipe.inputs, warn, "samples"))
    _check_labels(samples, classes)
    return samples


def _check_labels(samples: Sequence[Sample], classes: int | None) -> None:
    """Raise UsageError where some samples have labels and some have none, or a label is no class of the model."""
    labelled = [one for one in samples if one.label is not None]
    if labelled and len(labelled) < len(samples):
        bare = next(one.name for one in samples if one.label is None)
        raise UsageError(f"data.evaluation: {bare} has no label and {labelled[0].name} has one: give all or none")
    for one in labelled:
        assert one.label is not None  # those are the ones that are left
        if one.label < 0 or (classes is not None and one.label >= classes):
            known = f"the model has {classes} classes, 0 to {classes - 1}" if classes else "classes count from 0"
            hint = "" if one.label < 0 else ": do the labels count from 1, or belong to another model?"
            raise UsageError(f"data.evaluation: the label of {one.name} is {one.label}, but {known}{hint}")


def _calibrating(recipe: Recipe, folder: Path) -> list[int]:
    """Indices of the evaluation's samples that calibration uses: none where it has another source."""
    calibration, evaluation = recipe.data.calibration, recipe.data.evaluation
    if calibration is None or evaluation is None or calibration.origin != evaluation.origin:
        return []
    return open_pool(recipe, calibration, folder).spread(calibration.samples or CALIBRATION)


def calibration_batches(
    recipe: Recipe,
    folder: Path,
    count: int | None = None,
    warn: Warn = lambda note: None,
    what: str | None = None,
) -> Iterator[Arrays]:
    """One sample after the other, as the model takes it; only one is in memory.

    Args:
        recipe: names the samples.
        folder: its own.
        count: how many at most; by default all that the recipe's `data.calibration` has.
        warn: told where there are fewer, and of each that was left out.
        what: the samples are counted as; None if whoever asks for them counts.

    Raises:
        UsageError: there are none, they do not fit the model, or more than 1 % cannot be read or are not finite.
    """
    source = recipe.data.calibration
    if source is None:
        raise UsageError(
            "static quantization needs real samples to find its ranges: add data.calibration (images, arrays or "
            "factory) to the recipe, or `calibration: {random: 0}`, which calibrates for noise"
        )
    pool = open_pool(recipe, source, folder)
    every = pool.spread(source.samples or CALIBRATION)
    used = min(count or len(every), len(every))
    picked = [every[index * len(every) // used] for index in range(used)]
    if (asked := count or source.samples or 0) > used:
        warn(f"calibrated with {len(picked)} samples: there are no more of the {asked} that were asked for")
    size = next(iter(recipe.inputs.values())).concrete(best_sizes(recipe.dims))[0]
    for sample in _readable(pool, picked, recipe.inputs, warn, what):
        yield {name: np.stack([array] * size) for name, array in sample.inputs.items()}


def some_samples(recipe: Recipe, folder: Path, count: int) -> tuple[str, list[Arrays]]:
    """At most `count` inputs to look at a graph's values with, and what they are.

    Those that calibrate, where the recipe has any: what judges shall decide as little as possible. Else those that
    judge, else seeded noise.
    """
    data = recipe.data
    if data.calibration is not None:
        what = "calibration noise" if data.calibration.random is not None else "calibration samples"
        return f"the recipe's {what}", list(calibration_batches(recipe, folder, count))
    if data.evaluation is None:
        noise = synthetic_samples(recipe.inputs, recipe.dims, recipe.seed, count)
        return "seeded noise", [probe.inputs for probe in noise]
    pool = open_pool(recipe, data.evaluation, folder)
    # What is left out here has been told when the probes were made.
    samples = list(_readable(pool, pool.spread(count), recipe.inputs, lambda note: None))
    return "the recipe's evaluation samples", [probe.inputs for probe in _batches(recipe, samples)]


def _readable(
    pool: Pool, picked: Sequence[int], inputs: Specs, warn: Warn, what: str | None = None
) -> Iterator[Sample]:
    """The samples that can be read and are finite. Raises UsageError at the end where more than 1 % cannot.

    `what`: they are counted as; None if whoever asks for them counts.
    """
    broken: list[str] = []
    for index in picked if what is None else counted(picked, what):
        try:
            yield checked(pool, index, inputs)
        except InputError as error:
            broken.append(str(error))
    if len(broken) > UNREADABLE_SHARE * len(picked):
        raise UsageError(f"{len(broken)} of {len(picked)} samples cannot be read:\n  " + "\n  ".join(broken))
    for one in broken:
        warn(f"left out: {one}")


def checked(pool: Pool, index: int, inputs: Specs) -> Sample:
    """One sample in the model's dtypes.

    Raises:
        InputError: it cannot be read, or is not finite.
        UsageError: it does not fit the model.
    """
    return _fitting(_finite(pool.read(index), pool.names[index]), inputs, pool.names[index])


def training_pool(recipe: Recipe, folder: Path) -> tuple[Pool, list[int]]:
    """The samples that a model may learn from, and their indices: `data.training`, else `data.calibration`.

    What judges is left out where it comes from the same source. Raises UsageError where the recipe has none.
    """
    source = recipe.data.training or recipe.data.calibration
    if source is None:
        raise UsageError(
            "recover learns from samples: add `data: {training: {images: FOLDER}}` (or arrays: FILE, factory: "
            "python:module:function) to the recipe; labels are not needed"
        )
    pool = open_pool(recipe, source, folder)
    judging = recipe.data.evaluation
    taken = _judging(recipe, folder) if judging is not None and judging.origin == source.origin else []
    asked = recipe.data.training.samples if recipe.data.training else None
    indices = pool.spread(asked or len(pool.names), taken)
    if len(indices) < _FEWEST:
        raise UsageError(f"recover: {len(indices)} samples are too few to learn from; {_FEWEST} are the least")
    return pool, indices


_FEWEST = 8  # some to learn from and some that tell when to stop


def _judging(recipe: Recipe, folder: Path) -> list[int]:
    """Indices of the samples that artifacts are judged on."""
    source = recipe.data.evaluation
    assert source is not None  # asked only where the recipe has it
    return open_pool(recipe, source, folder).spread(source.samples or PICTURES, _calibrating(recipe, folder))


def _finite(sample: Sample, name: str) -> Sample:
    if any(not np.isfinite(array).all() for array in sample.inputs.values() if array.dtype.kind == "f"):
        raise InputError(f"{name} has values that are NaN or infinite")
    return sample


def _fitting(sample: Sample, inputs: Specs, name: str) -> Sample:
    """The sample in the model's dtypes. Raises UsageError where its shape is another, or a value would change."""
    arrays = {}
    for key, spec in inputs.items():
        array, want = sample.inputs[key], spec.shape[1:]
        fits = len(want) == array.ndim and all(
            isinstance(size, str) or size == got for size, got in zip(want, array.shape, strict=True)
        )
        if not fits:
            raise UsageError(f"{name} is {list(array.shape)}, the input {key!r} is {spec}, the batch first")
        arrays[key] = _cast(array, spec.dtype, f"{name} is {array.dtype}, the input {key!r} is {spec.dtype}")
    return Sample(arrays, sample.label, name)


def _cast(array: np.ndarray[Any, Any], dtype: str, what: str) -> np.ndarray[Any, Any]:
    """The array in another dtype. Raises UsageError, beginning with `what`, where that would change a value."""
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and not dtype.startswith("float")):
        raise UsageError(what)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    changed = ~np.isfinite(cast) if cast.dtype.kind == "f" else np.not_equal(cast, array)
    if changed.any():
        raise UsageError(f"{what}, which does not hold the value {array[changed][0]:g}")
    return cast


def _batches(recipe: Recipe, samples: Sequence[Sample]) -> list[Probe]:
    """Batches of the size to be fastest at; the last one is filled up from the start."""
    sizes = best_sizes(recipe.dims)
    count = next(iter(recipe.inputs.values())).concrete(sizes)[0]
    what = "pictures" if recipe.data.evaluation and recipe.data.evaluation.images else "samples"
    batches = []
    for start in range(0, len(samples), count):
        picked = [samples[index % len(samples)] for index in range(start, start + count)]
        inputs = {name: np.stack([sample.inputs[name] for sample in picked]) for name in recipe.inputs}
        # What fills the last batch up was counted already: only the new samples have labels.
        known = tuple(sample.label for sample in samples[start : start + count] if sample.label is not None)
        batches.append(Probe(f"{what} from {start}", inputs, "data", sizes, (), known))
    return batches
