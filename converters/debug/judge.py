"""Errors of layers, and which layer is to blame for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from runtimes.artifact.gates import Gates
from runtimes.validator.defaults import EDGE_ALLOWANCE, NOISE_FP32, SQNR_DB
from runtimes.validator.parity import distance, rms

# A layer is to blame if its relative error is more than this many times the error that it would
# have if the layer added none itself (6 dB of SQNR lost). A fault adds an error of 1e-2 to one of
# 1e-7. The error of the inputs alone is no measure: a difference of two near values has a larger
# one, and is right.
GROWTH = 2.0


# A layer whose value differs from what the values before it give by more than this many times its
# whole error is not made of them: one of them was compared with the wrong value. Saturating
# integers give up to some three times.
MISLED = 10.0


@dataclass(frozen=True)
class Measure:
    """The distance of one layer from the truth.

    Attributes:
        error: rms error over rms truth; infinite if values are not finite and eager's are.
        sqnr_db: the same in dB, as signal over error.
        noise: rms error over eager's own rms error.
        dtype: of the artifact's value.
        added: the part of `error` that the layer adds itself: its value against what the truth
            model makes of the artifact's values before it.
        candidate: the index of the value that was chosen among those that may be the layer's.
        misled: the value differs so much from what the values before it give that one of them is
            not what the layer takes.
    """

    error: float
    sqnr_db: float
    noise: float
    dtype: str
    candidate: int
    added: float = 0.0
    misled: bool = False


def measure(
    candidate: int,
    value: np.ndarray[Any, Any],
    eager: np.ndarray[Any, Any],
    truth: np.ndarray[Any, Any],
) -> Measure:
    """Compare a value with the truth, where both models are finite (masks hold -inf by design)."""
    dtype = str(value.dtype)
    if value.shape != truth.shape:
        return Measure(math.inf, -math.inf, math.inf, dtype, candidate)
    finite = np.isfinite(truth) & np.isfinite(eager)
    gap = distance("", "", value[finite], eager[finite], truth[finite])
    if not math.isfinite(gap.max_abs):
        return Measure(math.inf, gap.sqnr_db, math.inf, dtype, candidate)
    return Measure(10 ** (-gap.sqnr_db / 20), gap.sqnr_db, gap.noise, dtype, candidate)


def own_error(
    value: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]
) -> float:
    """Return the error that a layer adds itself, over the truth's rms.

    More than its whole error means that the layer did not take what `expected` was computed from.
    If its input is not finite, the layer is not held responsible.
    """
    if value.shape != expected.shape:
        return math.inf
    finite = np.isfinite(expected) & np.isfinite(truth)
    with np.errstate(invalid="ignore", over="ignore"):
        error = rms(np.asarray(value, np.float64)[finite] - expected[finite])
    return error / (rms(truth[finite]) or 1.0) if math.isfinite(error) else math.inf
