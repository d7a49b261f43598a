"""Seeded values for inputs: noise for floats, legal numbers for ids, masks and lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from runtimes.spec import InputKind, TensorSpec

Values = np.ndarray[Any, Any]


def kind_of(name: str, spec: TensorSpec) -> InputKind | None:
    """Return what the numbers of an input mean: as declared, or as its name and range suggest.

    Integers without a range that are called a mask are one; integers of a range of three numbers or
    more are ids.
    """
    if spec.kind is not None:
        return spec.kind
    if spec.dtype == "bool" or np.issubdtype(spec.dtype, np.floating):
        return None
    if spec.range is None:
        return "mask" if "mask" in name.lower() else None
    low, high = integer_range(spec)
    return "ids" if high - low > 1 else None


def draw(name: str, spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator) -> Values:
    """Draw seeded values for one input.

    Floats without a range are standard normal, all else is uniform; each row of a mask has a 1.
    """
    shape = spec.concrete(sizes)
    if kind_of(name, spec) == "mask":
        return np.asarray(_mask(shape, rng), spec.dtype)
    if spec.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if np.issubdtype(spec.dtype, np.floating):
        draws = (
            rng.standard_normal(shape) if spec.range is None else rng.uniform(*spec.range, shape)
        )
        return np.asarray(draws, spec.dtype)  # a draw without dimensions is a Python number
    low, high = legal_integers(name, spec, sizes)
    return np.asarray(rng.integers(low, high, shape, endpoint=True), spec.dtype)


def draw_all(
    inputs: Mapping[str, TensorSpec], sizes: Mapping[str, int], rng: np.random.Generator
) -> dict[str, Values]:
    """Draw seeded values for every input; see `draw`."""
    return {name: draw(name, spec, sizes, rng) for name, spec in inputs.items()}


def integer_range(spec: TensorSpec) -> tuple[int, int]:
    """Return the smallest and largest legal integer of an input: its range, cut to the dtype's."""
    limits = np.iinfo(spec.dtype)
    low, high = spec.range or (0, 1)
    return max(math.ceil(low), int(limits.min)), min(math.floor(high), int(limits.max))


def legal_integers(name: str, spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Return the smallest and largest legal integer at these sizes.

    A length without a range is at least 1, and at most the dynamic dimension that the input itself
    lacks (`lengths: [batch]` beside `tokens: [batch, time]`: at most `time`).
    """
    if kind_of(name, spec) == "length" and spec.range is None:
        return 1, max((size for dim, size in sizes.items() if dim not in spec.shape), default=1)
    return integer_range(spec)


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Values:
    """Draw zeros and ones: one half of the rows padded at the end, the others mixed."""
    if not shape:
        return np.ones(shape)
    *rows, width = shape
    lengths = rng.integers(1, width, (*rows, 1), endpoint=True)
    padded = np.arange(width) < lengths
    mixed = rng.integers(0, 2, shape).astype(bool)
    mixed |= np.arange(width) == lengths - 1
    return np.where(rng.integers(0, 2, (*rows, 1)).astype(bool), padded, mixed)
