"""Patterns of wrong values, on values with a known fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from converters.debug.looks import describe

RNG = np.random.default_rng(0)
TRUTH = RNG.standard_normal((3, 5, 4, 4))
CONSTANT = RNG.standard_normal((1, 5, 1, 1))
BOUNDED = np.clip(TRUTH, 0, 1)

PATTERNS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "factor": (lambda t: t * 2, "it is 2 times the truth"),
    "bias": (lambda t: t + CONSTANT, "each channel is off by a constant: a bias or a mean"),
    "line": (lambda t: t * (1 + CONSTANT) + 0.3, "each channel is off by a factor and a constant"),
    "channels": (lambda t: t[:, [1, 0, 2, 3, 4]], "of 5 channels only 0, 1 differ"),
    "order": (lambda t: t[:, ::-1], "it holds the right values in another order"),
    "layout": (
        lambda t: t.transpose(0, 2, 3, 1).reshape(t.shape),
        "channels or axes (NHWC, NCHW) are mixed up",
    ),
    "clamped": (lambda t: np.minimum(t, 0.5), "it ends at 0.5, where the truth goes above"),
    "nothing": (lambda t: RNG.standard_normal(t.shape), ""),
    "right": (lambda t: t, ""),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_described(pattern: str) -> None:
    change, expected = PATTERNS[pattern]
    texts = describe(change(TRUTH), TRUTH, {"other": RNG.standard_normal(TRUTH.shape)})
    assert expected in "; ".join(texts) and bool(texts) == bool(expected)


def test_a_missing_clamp() -> None:
    assert describe(np.maximum(TRUTH, 0), BOUNDED, {}) == [
        "it goes above 1, where the truth ends: a clamp is missing (ReLU6, ReLU)"
    ]
    assert "it goes below 0" in describe(np.minimum(TRUTH, 1), BOUNDED, {})[0]


def test_the_values_of_another() -> None:
    twin = RNG.standard_normal(TRUTH.shape)
    assert describe(twin.astype(np.float32), TRUTH, {"a": BOUNDED, "b": twin}) == [
        "it holds what b should hold"
    ]


def test_an_overflow() -> None:
    large = TRUTH * 1e5
    with np.errstate(over="ignore"):
        texts = describe(large.astype(np.float16), large, {})
    assert len(texts) == 1 and "values are Inf or NaN, where the truth goes up to" in texts[0]


def test_what_the_truth_has_too_is_no_overflow() -> None:
    masked = np.where(TRUTH > 1, -np.inf, TRUTH)
    assert describe(masked, masked, {}) == []


def test_another_shape() -> None:
    assert describe(TRUTH[:2], TRUTH, {}) == ["its shape is [2, 5, 4, 4], the truth's [3, 5, 4, 4]"]
