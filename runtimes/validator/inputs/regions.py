"""Regions of legal values that ordinary samples do not reach, and how to fill an input with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from runtimes.spec import (
    Arrays,
    Dims,
    Specs,
    TensorSpec,
    best_sizes,
    complete_sizes,
    free_dims,
)
from runtimes.validator.defaults import (
    BLOCK,
    DENORMAL,
    FAINT,
    LARGE,
    LARGER,
    OFFSET,
    REGION_ROWS,
    SMALL,
    STRONG,
)
from runtimes.validator.inputs.draws import Values, draw, draw_all, kind_of, legal_integers

REGIONS = (
    *("zeros", "lowest", "highest", "constant", "negative"),
    *("plain", "coarse", "faint", "strong", "larger", "large", "small", "denormal"),
)
"""Names of the regions. An input that has no such region gets ordinary noise."""

UNDECLARED = (
    *("constant", "negative", "plain", "coarse", "faint", "strong"),
    *("larger", "large", "small", "denormal"),
)
"""Regions that are not the ends of a declared range."""

MANY_ROWS = ("plain",)
"""Regions whose rows differ much, so that a batch of them shows more than one row."""

OVERFLOWING = ("larger", "large")
"""Regions where float16 may overflow although the model is right."""


def regions(
    inputs: Specs, dims: Dims, batch: str | None, rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, int], Arrays]]:
    """Yield the name of each region that an input has, the sizes, and all inputs' values in it.

    Sizes are the best ones; a region of MANY_ROWS has a batch of at least REGION_ROWS, if it may.
    """
    best = best_sizes(dims)
    wide = dict(best)
    if batch is not None and batch in free_dims(dims) and best[batch] < REGION_ROWS:
        unit = dims[batch].multiple_of
        rows = -(-REGION_ROWS // unit) * unit
        wide = complete_sizes({**best, batch: min(rows, dims[batch].max)}, dims)
    for region in REGIONS:
        sizes = wide if region in MANY_ROWS else best
        filled = {name: _fill(name, spec, sizes, region, rng) for name, spec in inputs.items()}
        if all(values is None for values in filled.values()):
            continue
        arrays: Arrays = {}
        for name, values in filled.items():
            arrays[name] = draw(name, inputs[name], sizes, rng) if values is None else values
        yield region, sizes, arrays


def not_finite(
    inputs: Specs, sizes: Mapping[str, int], rng: np.random.Generator
) -> Iterator[tuple[str, Arrays]]:
    """Yield noise with a NaN in each floating-point input, and noise with an Inf and a -Inf.

    Nothing if there is no such input.
    """
    for name, values in (("a NaN", (np.nan,)), ("an Inf", (np.inf, -np.inf))):
        arrays = draw_all(inputs, sizes, rng)
        floating = [array for array in arrays.values() if array.dtype.kind == "f" and array.size]
        for array in floating:
            places = rng.choice(array.size, min(len(values), array.size), replace=False)
            array.reshape(-1)[places] = values[: len(places)]
        if floating:
            yield name, arrays


def _fill(
    name: str, spec: TensorSpec, sizes: Mapping[str, int], region: str, rng: np.random.Generator
) -> Values | None:
    """Return one input in a region, or None if it has no such region."""
    if np.issubdtype(spec.dtype, np.floating):
        fill = _unbounded if spec.range is None else _bounded
        return fill(spec, spec.concrete(sizes), region, rng)
    return _integers(name, spec, sizes, region)


def _unbounded(
    spec: TensorSpec, shape: tuple[int, ...], region: str, rng: np.random.Generator
) -> Values | None:
    """Fill floats without a range: noise scaled up and down, of one sign, or a constant."""
    scale = {
        "zeros": 0.0,
        "larger": LARGER,
        "large": LARGE,
        "small": SMALL,
        "denormal": DENORMAL if spec.dtype == "float32" else None,
    }.get(region)
    noise = rng.standard_normal(shape)
    values: dict[str, Any] = {
        "constant": np.full(shape, rng.uniform(0.5, 1.5)),
        "negative": -np.abs(noise),
        "plain": _plain(2 * noise),
        "coarse": _coarse(noise),
        "faint": FAINT * noise + OFFSET,
        "strong": STRONG * noise - OFFSET,
    }
    filled = values.get(region) if scale is None else noise * scale
    return None if filled is None else np.asarray(filled, spec.dtype)


def _bounded(
    spec: TensorSpec, shape: tuple[int, ...], region: str, rng: np.random.Generator
) -> Values | None:
    """Fill floats of a range: its ends, zero, a constant, its negative part."""
    assert spec.range is not None
    low, high = spec.range
    values: dict[str, Any] = {"lowest": low, "highest": high, "constant": rng.uniform(low, high)}
    if low <= 0 <= high:
        values["zeros"] = 0.0
    if low < 0:
        values["negative"] = rng.uniform(low, min(high, 0.0), shape)
    values["plain"] = _plain(rng.uniform(low, high, shape))
    values["coarse"] = _coarse(rng.uniform(low, high, shape))
    faint = FAINT * (high - low)
    start = rng.uniform(low, high - faint)
    values["faint"] = rng.uniform(start, start + faint, shape)
    filled = values.get(region)
    return None if filled is None else np.full(shape, filled, spec.dtype)


def _plain(noise: Values) -> Values | None:
    """Repeat one value of each channel over all its places: pictures of one colour."""
    places = tuple(slice(1) if axis > 1 else slice(None) for axis in range(noise.ndim))
    return np.broadcast_to(noise[places], noise.shape).copy() if noise.ndim > 2 else None


def _coarse(noise: Values) -> Values:
    """Repeat values over blocks along the last two axes."""
    for axis in range(max(0, noise.ndim - 2), noise.ndim):
        size = noise.shape[axis]
        noise = np.take(noise, np.arange(size) // BLOCK * BLOCK, axis=axis)
    return noise


def _integers(name: str, spec: TensorSpec, sizes: Mapping[str, int], region: str) -> Values | None:
    """Fill integers and booleans with the ends of their range; a mask keeps one 1 in each row."""
    shape = spec.concrete(sizes)
    if kind_of(name, spec) == "mask":
        if region == "highest":
            return np.ones(shape, spec.dtype)
        if region == "lowest" and shape:
            return np.asarray(np.broadcast_to(np.arange(shape[-1]) == 0, shape), spec.dtype)
        return None
    low, high = (0, 1) if spec.dtype == "bool" else legal_integers(name, spec, sizes)
    value = {"lowest": low, "highest": high}.get(region)
    return None if value is None else np.full(shape, value, spec.dtype)
