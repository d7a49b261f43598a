"""Patterns of wrong values: the words that lead from a layer to its fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from runtimes.validator.outputs.distance import rms

Values = np.ndarray[Any, Any]

# A pattern explains an error if it leaves less than this share of it: rounding adds its own.
_LEFT = 0.1
# Sorted values are the same ones if they differ by less than this share: two draws of one
# distribution differ by more, unless they are a hundred million values.
_SAME = 1e-4
# More names than this in one sentence help nobody.
_NAMED = 6


def describe(values: Values, truth: Values, alike: Mapping[str, Values]) -> list[str]:
    """Describe what is wrong with values.

    Args:
        values: the artifact's.
        truth: the values that they should be.
        alike: the truth of other layers and outputs, by name; all of the truth's shape.
    """
    if values.shape != truth.shape:
        return [f"its shape is {list(values.shape)}, the truth's {list(truth.shape)}"]
    finite = np.isfinite(truth)
    if not np.isfinite(values[finite]).all():
        return [_overflow(values, truth, finite)]
    wide = np.where(finite, values, 0).astype(np.float64)
    exact = np.where(finite, truth, 0).astype(np.float64)
    return list(_patterns(wide, exact, alike)) if rms(wide - exact) else []


def _overflow(values: Values, truth: Values, finite: Values) -> str:
    count = int(np.sum(~np.isfinite(values[finite])))
    largest = float(np.abs(truth[finite]).max(initial=0))
    limit = np.finfo(values.dtype).max
    return (
        f"{count} of {values.size} values are Inf or NaN, where the truth goes up to "
        f"{largest:.3g}; {values.dtype} holds up to {limit:.3g}"
    )


def _patterns(values: Values, truth: Values, alike: Mapping[str, Values]) -> Iterator[str]:
    """Describe the first pattern that explains the error, and channels that alone are wrong."""
    error = values - truth
    small = _LEFT * rms(error)
    channels = _channels(error)
    if 0 < len(channels) <= _NAMED:
        yield f"of {truth.shape[1]} channels only {', '.join(map(str, channels))} differ"
    for name, exact in alike.items():
        if rms(values - exact) < small:
            yield f"it holds what {name} should hold"
            return
    if rms(np.sort(values, axis=None) - np.sort(truth, axis=None)) < _SAME * rms(truth):
        yield (
            "it holds the right values in another order: channels or axes (NHWC, NCHW) are mixed up"
        )
    elif bound := _bound(values, truth):
        yield bound
    else:
        yield from _fit(values, truth, small)


def _channels(error: Values) -> list[int]:
    """Return the channels (axis 1) that hold the error, if the others hold none of it."""
    if error.ndim < 2:
        return []
    sizes = np.array([rms(error[:, number]) for number in range(error.shape[1])])
    wrong = sizes > 1e-3 * sizes.max(initial=0)
    return [] if wrong.all() else np.flatnonzero(wrong).tolist()


def _bound(values: Values, truth: Values) -> str | None:
    """Describe a bound of one that the other exceeds, if both agree elsewhere."""
    error = np.abs(values - truth)
    wrong = error > _LEFT * rms(values - truth)
    for end, word in ((np.max, "above"), (np.min, "below")):
        if np.ptp(truth[wrong]) == 0 and truth[wrong][0] == end(truth):
            limit = truth[wrong][0]
            return (
                f"it goes {word} {limit:.3g}, where the truth ends: a clamp is missing "
                "(ReLU6, ReLU)"
            )
        edge = end(values)
        if np.ptp(values[wrong]) == 0 and values[wrong][0] == edge:
            return (
                f"it ends at {edge:.3g}, where the truth goes {word}: it is clamped, or its scale "
                "is too small"
            )
    return None


def _fit(values: Values, truth: Values, small: float) -> Iterator[str]:
    """Describe the simplest fit: a factor, a constant per channel, or both per channel."""
    factor = float(np.vdot(values, truth) / np.vdot(truth, truth)) if truth.any() else 0.0
    if rms(values - factor * truth) < small:
        yield f"it is {factor:.4g} times the truth: weights or a scale"
    elif truth.ndim > 1 and truth.size > truth.shape[1]:
        exact = _by_channel(truth)
        error = _by_channel(values) - exact
        if rms(error - error.mean(1, keepdims=True)) < small:
            yield "each channel is off by a constant: a bias or a mean"
        elif truth.size > 2 * truth.shape[1] and rms(error - _lines(error, exact)) < small:
            yield (
                "each channel is off by a factor and a constant: weights or a normalization's "
                "statistics"
            )


def _by_channel(values: Values) -> Values:
    """Return the values with one row per channel (axis 1)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


def _lines(values: Values, over: Values) -> Values:
    """Return per row the least-squares line of `values` over `over`."""
    centred = over - over.mean(1, keepdims=True)
    variance = np.maximum((centred**2).sum(1, keepdims=True), 1e-300)
    slope = (centred * values).sum(1, keepdims=True) / variance
    fitted: Values = values.mean(1, keepdims=True) + slope * centred
    return fitted
