"""Uses of a recipe's samples: probes of the validator, calibration, training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.data.batches import make_batches
from converters.data.samples import Pool, Sample, open_pool
from converters.data.split import CALIBRATION, affordable, calibrating, judging
from converters.data.spread import spread
from converters.recipe.schema import Recipe
from runtimes.errors import InputError, UsageError
from runtimes.progress import counted
from runtimes.spec import Arrays, Specs, best_sizes
from runtimes.validator.defaults import PICTURES
from runtimes.validator.inputs.design import Work
from runtimes.validator.probes import Probe, synthetic_samples, with_limits

UNREADABLE_SHARE = 0.01
"""Largest share of samples that may be unreadable; more fail the run."""

Warn = Callable[[str], object]


def probes(
    recipe: Recipe,
    folder: Path,
    warn: Warn = lambda note: None,
    classes: int | None = None,
    work: Work | None = None,
) -> list[Probe]:
    """Return the recipe's samples, or else seeded noise, with other sizes and unusual values.

    `warn` is called for each sample that is left out; `classes` as in `evaluation_samples`, `work` as
    in `with_limits`.
    """
    if recipe.data.evaluation is not None:
        samples = make_batches(recipe, evaluation_samples(recipe, folder, warn, classes))
    else:
        samples = _substitutes(recipe, folder, warn, classes)
    return with_limits(samples, recipe.inputs, recipe.dims, recipe.seed, recipe.probes.sizes, work)


def _substitutes(recipe: Recipe, folder: Path, warn: Warn, classes: int | None) -> list[Probe]:
    """Return real samples of a recipe without `data.evaluation`, or else seeded noise.

    Calibration or training samples, but none of those that calibration takes its ranges from.
    """
    calibration = recipe.data.calibration
    for source in (calibration, recipe.data.training):
        if source is None or source.random is not None:
            continue
        try:
            pool = open_pool(recipe, source, folder)
        except UsageError as error:  # the artifacts that need these samples report it
            warn(f"judged on noise: {error}")
            continue
        picked = pool.spread(PICTURES, calibrating(recipe, folder, source))
        if picked:
            samples = list(_readable(pool, picked, recipe.inputs, warn, "samples"))
            _check_labels(samples, classes)
            return make_batches(recipe, samples)
        warn(
            "judged on noise: calibration uses every sample. Lower `samples` of data.calibration, or "
            "add data.evaluation"
        )
    return synthetic_samples(recipe.inputs, recipe.dims, recipe.seed)


def evaluation_samples(
    recipe: Recipe, folder: Path, warn: Warn = lambda note: None, classes: int | None = None
) -> list[Sample]:
    """Return the samples that artifacts are judged on: never one that calibration uses.

    Args:
        recipe: names the samples.
        folder: of the recipe.
        warn: called for each sample that is left out.
        classes: of the model, if their number is known and labels must fit it.

    Raises:
        UsageError: there are none, they or their labels do not fit the model, or more than 1 %
            cannot be read.
    """
    source = recipe.data.evaluation
    assert source is not None  # called only if the recipe has it
    pool = open_pool(recipe, source, folder)
    picked = judging(recipe, folder, pool)
    if not picked:
        raise UsageError(
            "data: calibration uses every sample, none is left for evaluation: lower `samples` of "
            "data.calibration"
        )
    if source.samples is None and len(picked) == affordable(recipe) < len(pool.names):
        warn(
            f"judged on {len(picked):,} of {len(pool.names):,} labelled samples, whose inputs take "
            "1 GB: `samples:` of data.evaluation sets another number"
        )
    samples = list(_readable(pool, picked, recipe.inputs, warn, "samples"))
    _check_labels(samples, classes)
    return samples


def _check_labels(samples: Sequence[Sample], classes: int | None) -> None:
    """Raise UsageError if only some samples have labels, or a label is no class of the model."""
    labelled = [sample for sample in samples if sample.label is not None]
    if labelled and len(labelled) < len(samples):
        bare = next(sample for sample in samples if sample.label is None)
        raise UsageError(
            f"data.evaluation: {bare.name} has no label and {labelled[0].name} has one: label all "
            "samples or none"
        )
    for sample in labelled:
        label = sample.label
        assert label is not None  # those without were left out above
        if label < 0 or (classes is not None and label >= classes):
            limits = "classes count from 0"
            if classes:
                limits = f"the model has {classes} classes, 0 to {classes - 1}"
            hint = "" if label < 0 else ": do the labels count from 1, or belong to another model?"
            raise UsageError(
                f"data.evaluation: the label of {sample.name} is {label}, but {limits}{hint}"
            )


def calibration_batches(
    recipe: Recipe,
    folder: Path,
    count: int | None = None,
    warn: Warn = lambda note: None,
    unit: str | None = None,
) -> Iterator[Arrays]:
    """Yield one sample after the other, as the model takes it; only one is in memory.

    Args:
        recipe: names the samples.
        folder: of the recipe.
        count: how many at most; by default all samples of the recipe's `data.calibration`.
        warn: called if there are fewer, and for each sample that is left out.
        unit: name of the samples in progress counts; None if the caller counts.

    Raises:
        UsageError: there are none, they do not fit the model, or more than 1 % cannot be read or
            are not finite.
    """
    source = recipe.data.calibration
    if source is None:
        raise UsageError(
            "no calibration data: static quantization needs real samples to find its ranges: add "
            "data.calibration (images, arrays or factory) to the recipe, or "
            "`calibration: {random: 0}`, which calibrates for noise"
        )
    pool = open_pool(recipe, source, folder)
    indices = pool.spread(source.samples or CALIBRATION)
    picked = spread(indices, count or len(indices))
    used = len(picked)
    requested = count or source.samples or 0
    if requested > used:
        warn(f"calibrated with {used} samples: {requested} were requested, but there are no more")
    size = next(iter(recipe.inputs.values())).concrete(best_sizes(recipe.dims))[0]
    for sample in _readable(pool, picked, recipe.inputs, warn, unit):
        yield {name: np.stack([array] * size) for name, array in sample.inputs.items()}


def some_samples(recipe: Recipe, folder: Path, count: int) -> tuple[str, list[Arrays]]:
    """Return at most `count` inputs to look at a graph's values with, and what they are.

    Calibration samples if the recipe has any: evaluation samples shall decide as little as
    possible. Otherwise evaluation samples, or seeded noise.
    """
    data = recipe.data
    if data.calibration is not None:
        kind = "calibration noise" if data.calibration.random is not None else "calibration samples"
        return f"the recipe's {kind}", list(calibration_batches(recipe, folder, count))
    if data.evaluation is None:
        noise = synthetic_samples(recipe.inputs, recipe.dims, recipe.seed, count)
        return "seeded noise", [probe.inputs for probe in noise]
    pool = open_pool(recipe, data.evaluation, folder)
    # Skipped samples were reported when the probes were built.
    samples = list(_readable(pool, pool.spread(count), recipe.inputs, lambda note: None))
    return "the recipe's evaluation samples", [
        probe.inputs for probe in make_batches(recipe, samples)
    ]


def _readable(
    pool: Pool, picked: Sequence[int], inputs: Specs, warn: Warn, unit: str | None = None
) -> Iterator[Sample]:
    """Yield the samples that can be read and are finite.

    Raises UsageError at the end if more than 1 % cannot. `unit` as in `calibration_batches`.
    """
    broken: list[str] = []
    for index in picked if unit is None else counted(picked, unit):
        try:
            yield read_checked(pool, index, inputs)
        except InputError as error:
            broken.append(str(error))
    if len(broken) > UNREADABLE_SHARE * len(picked):
        reasons = "\n  ".join(broken)
        raise UsageError(f"{len(broken)} of {len(picked)} samples cannot be read:\n  {reasons}")
    for reason in broken:
        warn(f"left out: {reason}")


def read_checked(pool: Pool, index: int, inputs: Specs) -> Sample:
    """Return one sample in the model's dtypes.

    Raises:
        InputError: it cannot be read, or is not finite.
        UsageError: it does not fit the model.
    """
    return _fitting(_finite(pool.read(index), pool.names[index]), inputs, pool.names[index])


def training_pool(recipe: Recipe, folder: Path) -> tuple[Pool, list[int]]:
    """Return the samples to train on and their indices: `data.training`, else `data.calibration`.

    Evaluation samples are left out if they come from the same source. Raises UsageError if the
    recipe has no such data.
    """
    source = recipe.data.training or recipe.data.calibration
    if source is None:
        raise UsageError(
            "no training data: recover learns from samples: add "
            "`data: {training: {images: FOLDER}}` (or arrays: FILE, factory: "
            "python:module:function) to the recipe; labels are not needed"
        )
    pool = open_pool(recipe, source, folder)
    evaluation = recipe.data.evaluation
    reserved: list[int] = []
    if evaluation is not None and evaluation.origin == source.origin:
        reserved = judging(recipe, folder, pool)
        if recipe.data.training is None and evaluation.samples is None and len(reserved) > PICTURES:
            raise UsageError(
                f"no training data is left: data.evaluation judges on all {len(reserved)} labelled "
                "samples of the same source that do not calibrate: say how many shall judge "
                "(`samples: 400` under data.evaluation), or name data.training"
            )
    limit = recipe.data.training.samples if recipe.data.training else None
    indices = pool.spread(limit or len(pool.names), reserved)
    if len(indices) < _FEWEST:
        raise UsageError(
            f"recover: {len(indices)} samples are too few to train on; at least {_FEWEST} are "
            "needed"
        )
    return pool, indices


_FEWEST = 8  # some to train on and some that decide when to stop


def _finite(sample: Sample, name: str) -> Sample:
    for array in sample.inputs.values():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{name} has values that are NaN or infinite")
    return sample


def _fitting(sample: Sample, inputs: Specs, name: str) -> Sample:
    """Return the sample in the model's dtypes.

    Raises UsageError if its shape or a value does not fit.
    """
    arrays = {}
    for key, spec in inputs.items():
        array = sample.inputs[key]
        if not _fits(array.shape, spec.shape[1:]):
            raise UsageError(
                f"{name} is {list(array.shape)}, the input {key!r} is {spec}, the batch first"
            )
        mismatch = f"{name} is {array.dtype}, the input {key!r} is {spec.dtype}"
        arrays[key] = _cast(array, spec.dtype, mismatch)
    return Sample(arrays, sample.label, name)


def _fits(shape: Sequence[int], wanted: Sequence[int | str]) -> bool:
    """Return whether a shape is the wanted one; a named dimension takes any size."""
    if len(shape) != len(wanted):
        return False
    pairs = zip(shape, wanted, strict=True)
    return all(isinstance(limit, str) or size == limit for size, limit in pairs)


def _cast(array: np.ndarray[Any, Any], dtype: str, mismatch: str) -> np.ndarray[Any, Any]:
    """Return the array in another dtype.

    Raises UsageError(`mismatch`...) if that would change a value.
    """
    if array.dtype.kind not in "biuf" or (
        array.dtype.kind == "f" and not dtype.startswith("float")
    ):
        raise UsageError(mismatch)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    changed = ~np.isfinite(cast) if cast.dtype.kind == "f" else np.not_equal(cast, array)
    if changed.any():
        raise UsageError(f"{mismatch}, which does not hold the value {array[changed][0]:g}")
    return cast
