"""Parts of an output: the error of a lossy artifact against what varies there.

The SQNR of a tensor is that of its largest part: boxes of 640 pixels hide scores of 1 beside them,
and an offset of 294 hides a spread of 0.45. So the error is also compared with the variation of
each element around its mean over the samples, over the whole output and over each index of each
axis. A part that became a constant has 0 dB, whatever the constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtimes.results import GateResult
from runtimes.spec import Arrays
from runtimes.validator.defaults import (
    OUTLIER_AXIS,
    OUTLIER_DB,
    OUTLIER_INDICES,
    OUTLIER_SQNR_DB,
    PART_AXIS,
    PART_SAMPLES,
    PART_SQNR_DB,
    VARIATION_SHARE,
    VARIATION_SQNR_DB,
)
from runtimes.validator.outputs.order import ranked_axes
from runtimes.validator.reference import Reference

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """SQNR of what varies in an output, in dB.

    Attributes:
        name: of the output, with an index if it is not the whole (`boxes[:, 4]`).
        sqnr_db: of the variation over the error.
        whole: whether it is the whole output.
        samples: how many it rests on.
        usual: the SQNR of the median index beside it, if this one's error stands out; else None.
    """

    name: str
    sqnr_db: float
    whole: bool
    samples: int
    usual: float | None = None


def measure_parts(
    answers: Sequence[Arrays], reference: Reference, least: int = PART_SAMPLES
) -> list[Part]:
    """Return the whole and the worst part of each floating-point output, over the real samples.

    Outputs that do not vary, or of another size from sample to sample, are left out; so are all if
    there are fewer than `least` samples.
    """
    parts: list[Part] = []
    ranked = ranked_axes(reference)
    for name in reference.truth[0]:
        sums = _sums(name, answers, reference)
        if sums is None or sums.samples < least:
            continue
        by_index = list(_by_index(name, sums, ranked.get(name)))
        if by_index:
            parts.append(_whole(name, sums))
            worst = min(by_index, key=lambda part: part.sqnr_db)
            parts.append(replace(worst, usual=None))
            outliers = [part for part in by_index if part.usual is not None]
            if outliers:
                parts.append(min(outliers, key=lambda part: part.sqnr_db))
    return parts


def judge_parts(parts: Sequence[Part], precision: str) -> Iterator[GateResult]:
    """Yield a result for the worst whole output and for the worst part; none without a limit."""
    for whole, limits in ((True, VARIATION_SQNR_DB), (False, PART_SQNR_DB)):
        limit = limits.get(precision)
        measured = [part for part in parts if part.whole is whole and part.usual is None]
        if limit is None or not measured:
            continue
        worst = min(measured, key=lambda part: part.sqnr_db)
        detail = (
            f"SQNR in dB of what varies in {worst.name} over {worst.samples} samples is "
            f"{worst.sqnr_db:.3g}, at least {limit:g}"
        )
        yield GateResult(gate="parity", ok=worst.sqnr_db >= limit, detail=detail)
    limit = OUTLIER_SQNR_DB.get(precision)
    for part in parts:
        if limit is not None and part.usual is not None and part.sqnr_db < limit:
            detail = (
                f"SQNR in dB of what varies in {part.name} over {part.samples} samples is "
                f"{part.sqnr_db:.3g}, that of the indices beside it {part.usual:.3g}: such an outlier "
                f"has at least {limit:g}"
            )
            yield GateResult(gate="parity", ok=False, detail=detail)


@dataclass(frozen=True)
class _Sums:
    """Squared variation and squared error of each element, summed over the samples."""

    variation: Values
    error: Values
    magnitude: float
    samples: int


def _sums(name: str, answers: Sequence[Arrays], reference: Reference) -> _Sums | None:
    """Sum over the real samples; None if the output is not one of floats of one size.

    Values that are masked (-Inf) or NaN in the truth are left out, sample by sample.
    """
    first = reference.truth[0][name]
    if first.dtype.kind != "f" or not first.ndim:
        return None
    shape = first.shape[1:]
    total, squares, error, counts = (np.zeros(shape) for _ in range(4))
    samples = 0
    for probe, outputs, truth in zip(reference.probes, answers, reference.truth, strict=True):
        if probe.kind != "data":
            continue
        exact, actual = truth[name].astype(np.float64), outputs[name].astype(np.float64)
        if exact.shape[1:] != shape:
            return None
        finite = np.isfinite(exact)
        exact, actual = np.where(finite, exact, 0.0), np.where(finite, actual, 0.0)
        total += exact.sum(0)
        squares += np.square(exact).sum(0)
        error += np.square(actual - exact).sum(0)
        counts += finite.sum(0)
        samples += len(exact)
    if not counts.any():
        return None
    variation = np.maximum(squares - np.square(total) / np.maximum(1, counts), 0.0)
    return _Sums(variation, error, float(squares.sum()), samples)


def _whole(name: str, sums: _Sums) -> Part:
    decibel = _decibel(float(sums.variation.sum()), float(sums.error.sum()))
    return Part(name, decibel, True, sums.samples)


def _by_index(name: str, sums: _Sums, ranked: int | None = None) -> Iterator[Part]:
    """Yield the part at each index of each axis after the first, where it varies.

    On the `ranked` axis none stands out: what is last there is, within rounding, a matter of chance.
    """
    axes = range(sums.variation.ndim)
    for axis in axes:
        count = sums.variation.shape[axis]
        if count > PART_AXIS:
            continue
        others = tuple(other for other in axes if other != axis)
        variation, error = sums.variation.sum(others), sums.error.sum(others)
        varying = np.flatnonzero(variation > VARIATION_SHARE * sums.magnitude / count)
        decibels = [_decibel(float(variation[i]), float(error[i])) for i in varying]
        outliers = np.zeros(len(varying), bool)
        if axis != ranked and (len(axes) == 1 or count <= OUTLIER_AXIS):
            outliers = _outliers(np.array(decibels), error[varying])
        for number, index in enumerate(varying):
            place = ", ".join(str(index) if other == axis else ":" for other in axes)
            usual = float(np.median(decibels)) if outliers[number] else None
            yield Part(f"{name}[:, {place}]", decibels[number], False, sums.samples, usual)


def _outliers(decibels: Values, errors: Values) -> Values:
    """Return which indices of an axis are far worse than the others, by error and by SQNR.

    By error alone a part of larger numbers would stand out, by SQNR alone one that hardly varies.
    """
    if len(decibels) < OUTLIER_INDICES:
        return np.zeros(len(decibels), bool)
    worse = decibels < np.median(decibels) - OUTLIER_DB
    larger = errors > 10 ** (OUTLIER_DB / 10) * np.median(errors)
    return np.asarray(worse & larger)


def _decibel(variation: float, error: float) -> float:
    if not math.isfinite(error):
        return -math.inf
    if not error:
        return math.inf
    return 10 * math.log10(variation / error) if variation else -math.inf
