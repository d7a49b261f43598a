"""Scores of a classifier's classes, also if it has one score for two classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]
_SURE = 1e-12  # probabilities nearer to 0 or 1 have no finite logit


def class_scores(values: Values, probabilities: bool = False) -> Values:
    """Return the scores of classes [samples, classes] in float64.

    Classes are the last axis. A single score ([samples] or [..., 1]) is that of the second of two
    classes: it is chosen above 0, or a probability above one half.

    Args:
        values: an output.
        probabilities: a single score is a probability: see `are_probabilities`.
    """
    if not is_single(values):
        return np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    score = np.asarray(values, np.float64).reshape(-1)
    if probabilities:
        chance = np.clip(score, _SURE, 1 - _SURE)
        score = np.log(chance) - np.log1p(-chance)
    return np.stack([np.zeros_like(score), score], -1)


def is_single(values: Values) -> bool:
    """Return whether an output has one score for each sample."""
    return values.ndim < 2 or values.shape[-1] == 1


def are_probabilities(outputs: Iterable[Values]) -> bool:
    """Return whether all values of some outputs lie within 0 and 1."""
    return all(bool(np.all((values >= 0) & (values <= 1))) for values in outputs)
