"""What wrong values look like: the words that lead from a layer to its fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from runtimes.validator.parity import rms

Values = np.ndarray[Any, Any]

# A pattern explains an error where it leaves less than this share of it: rounding adds its own.
_LEFT = 0.1
# Sorted values are the same ones where they differ by less than this share: two draws of one distribution do by
# more, unless they are a hundred million values.
_SAME = 1e-4
# More names than this in one sentence help nobody.
_NAMED = 6


def looks(found: Values, truth: Values, others: Mapping[str, Values]) -> list[str]:
    """Say what is wrong with values.

    Args:
        found: the artifact's.
        truth: what they should be.
        others: what other layers and outputs should be, by name; all of the truth's shape.
    """
    if found.shape != truth.shape:
        return [f"its shape is {list(found.shape)}, the truth's {list(truth.shape)}"]
    sound = np.isfinite(truth)
    if not np.isfinite(found[sound]).all():
        return [_overflow(found, truth, sound)]
    wide = np.where(sound, found, 0).astype(np.float64)
    exact = np.where(sound, truth, 0).astype(np.float64)
    return list(_patterns(wide, exact, others)) if rms(wide - exact) else []


def _overflow(found: Values, truth: Values, sound: Values) -> str:
    count, largest = int(np.sum(~np.isfinite(found[sound]))), float(np.abs(truth[sound]).max(initial=0))
    holds = f"; {found.dtype} holds up to {np.finfo(found.dtype).max:.3g}"
    return f"{count} of {found.size} values are Inf or NaN, where the truth goes up to {largest:.3g}{holds}"


def _patterns(found: Values, truth: Values, others: Mapping[str, Values]) -> Iterator[str]:
    """The first pattern that explains the error, and the channels that are wrong where the others are right."""
    small = _LEFT * rms(found - truth)
    channels = _channels(found - truth)
    if 0 < len(channels) <= _NAMED:
        yield f"of {truth.shape[1]} channels only {', '.join(map(str, channels))} differ"
    for name, other in others.items():
        if rms(found - other) < small:
            yield f"it holds what {name} should hold"
            return
    if rms(np.sort(found, axis=None) - np.sort(truth, axis=None)) < _SAME * rms(truth):
        yield "it holds the right values in another order: channels or axes (NHWC, NCHW) are mixed up"
    elif bound := _bound(found, truth):
        yield bound
    else:
        yield from _fit(found, truth, small)


def _channels(error: Values) -> list[int]:
    """The channels (axis 1) that hold the error, where the others hold none of it."""
    if error.ndim < 2:
        return []
    sizes = np.array([rms(error[:, number]) for number in range(error.shape[1])])
    wrong = sizes > 1e-3 * sizes.max(initial=0)
    return [] if wrong.all() else [int(number) for number in np.flatnonzero(wrong)]


def _bound(found: Values, truth: Values) -> str | None:
    """Whether one of the two ends at a value that the other goes beyond, and both agree elsewhere."""
    wrong = np.abs(found - truth) > _LEFT * rms(found - truth)
    for end, word in ((np.max, "above"), (np.min, "below")):
        if np.ptp(truth[wrong]) == 0 and truth[wrong][0] == end(truth):
            return f"it goes {word} {truth[wrong][0]:.3g}, where the truth ends: a clamp is missing (ReLU6, ReLU)"
        edge = end(found)
        if np.ptp(found[wrong]) == 0 and found[wrong][0] == edge:
            return f"it ends at {edge:.3g}, where the truth goes {word}: it is clamped, or its scale is too small"
    return None


def _fit(found: Values, truth: Values, small: float) -> Iterator[str]:
    """The simplest of a factor, a constant per channel, and both per channel."""
    factor = float(np.vdot(found, truth) / np.vdot(truth, truth)) if truth.any() else 0.0
    if rms(found - factor * truth) < small:
        yield f"it is {factor:.4g} times the truth: weights or a scale"
    elif truth.ndim > 1 and truth.size > truth.shape[1]:
        rows = [np.moveaxis(one, 1, 0).reshape(truth.shape[1], -1) for one in (found, truth)]
        apart = rows[0] - rows[1]
        if rms(apart - apart.mean(1, keepdims=True)) < small:
            yield "each channel is off by a constant: a bias or a mean"
        elif truth.size > 2 * truth.shape[1] and rms(apart - _lines(apart, rows[1])) < small:
            yield "each channel is off by a factor and a constant: weights or a normalization's statistics"


def _lines(values: Values, over: Values) -> Values:
    """Per row the least-squares line of `values` over `over`."""
    centred = over - over.mean(1, keepdims=True)
    slope = (centred * values).sum(1, keepdims=True) / np.maximum((centred**2).sum(1, keepdims=True), 1e-300)
    fitted: Values = values.mean(1, keepdims=True) + slope * centred
    return fitted
