"""Which samples of a source judge, and which calibrate: no sample does both."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from converters.data.samples import Pool, open_pool
from converters.recipe.data import SampleSource
from converters.recipe.schema import Recipe
from runtimes.errors import InputError
from runtimes.spec import best_sizes
from runtimes.validator.defaults import HELD_OUT_SHARE, LABELLED_BYTES, PICTURES

CALIBRATION = 100
"""Samples to calibrate with if the recipe does not say: ranges settle within some hundred."""


def judging(recipe: Recipe, folder: Path, pool: Pool) -> list[int]:
    """Return the indices of the samples of data.evaluation that artifacts are judged on.

    By default all that have labels and neither calibrate nor train: what the interval of the
    accuracy proves depends on their number. Without labels some will do.
    """
    source = recipe.data.evaluation
    assert source is not None  # called only if the recipe has it
    count = source.samples
    if count is None:
        count = affordable(recipe) if _labelled(source, pool) else PICTURES
        training = recipe.data.training
        if training is not None and training.origin == source.origin:
            count = min(count, max(PICTURES, int(HELD_OUT_SHARE * len(pool.names))))
    return pool.spread(count, calibrating(recipe, folder, source))


def _labelled(source: SampleSource, pool: Pool) -> bool:
    """Return whether the samples have labels, by the first one if the recipe does not say."""
    if source.labels is not None:
        return True
    try:
        return pool.read(0).label is not None
    except InputError:
        return False  # reported when the samples are read


def affordable(recipe: Recipe) -> int:
    """Return how many samples' inputs LABELLED_BYTES hold."""
    sizes, size = best_sizes(recipe.dims), 0
    for spec in recipe.inputs.values():
        size += math.prod(spec.concrete(sizes)[1:]) * np.dtype(spec.dtype).itemsize
    return max(PICTURES, LABELLED_BYTES // max(1, size))


def calibrating(recipe: Recipe, folder: Path, source: SampleSource) -> list[int]:
    """Return indices of a source's samples that calibration uses: none of another source."""
    calibration = recipe.data.calibration
    if calibration is None or calibration.origin != source.origin:
        return []
    return open_pool(recipe, calibration, folder).spread(calibration.samples or CALIBRATION)
