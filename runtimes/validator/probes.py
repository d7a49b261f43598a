"""Probes: the inputs that the validator runs. Samples, edge values, and every dynamic size that matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from runtimes.spec import Arrays, DimRange, Dims, Specs, TensorSpec, best_sizes, export_sizes
from runtimes.validator.defaults import LARGE, SMALL, SYNTHETIC_PROBES

ProbeKind = Literal["data", "noise", "size", "edge"]
"""data: real samples; noise: seeded ones; size: samples at other sizes; edge: legal values at their limits."""


@dataclass(frozen=True)
class Probe:
    """One set of inputs.

    Attributes:
        name: what a verdict cites.
        inputs: one array per input.
        kind: see `ProbeKind`; lossy artifacts are not judged on `edge`.
        sizes: the dynamic dimensions.
        rows: where the batch was put together from the first rows of other probes: their indices.
        labels: the true classes of the samples, where they are known.
    """

    name: str
    inputs: Arrays
    kind: ProbeKind = "noise"
    sizes: dict[str, int] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()


def unseen_size(dim: DimRange, seen: int) -> int:
    """A legal size that neither the exporter saw nor `opt` asks for, as far as the range has one.

    Small odd sizes first: they are cheap, and no power of two hides a baked-in reshape.
    """
    candidates = [size for size in (3, 5, 7, dim.min, dim.max, seen + 1, seen - 1) if dim.min <= size <= dim.max]
    fresh = [size for size in candidates if size not in (seen, dim.best)]
    return next(iter(fresh or [size for size in candidates if size != seen] or [seen]))


def draw(spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Seeded noise for one input: standard normal for floats (uniform where a range is given), else uniform."""
    shape = spec.concrete(sizes)
    if spec.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if np.issubdtype(spec.dtype, np.floating):
        values = rng.standard_normal(shape) if spec.range is None else rng.uniform(*spec.range, shape)
        return np.asarray(values, spec.dtype)  # of no dimension, a draw is a number
    low, high = integer_range(spec)
    return np.asarray(rng.integers(low, high, shape, endpoint=True), spec.dtype)


def integer_range(spec: TensorSpec) -> tuple[int, int]:
    """The smallest and largest legal integer of an input: its range, as far as the dtype holds it."""
    limits = np.iinfo(spec.dtype)
    low, high = spec.range or (0, 1)
    return max(math.ceil(low), int(limits.min)), min(math.floor(high), int(limits.max))


def synthetic_samples(inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES) -> list[Probe]:
    """Seeded noise at the sizes to be fastest at."""
    rng, sizes = np.random.default_rng(seed), best_sizes(dims)
    return [
        Probe(f"noise {number}", {key: draw(spec, sizes, rng) for key, spec in inputs.items()}, "noise", sizes)
        for number in range(count)
    ]


def synthetic_probes(inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES) -> list[Probe]:
    """Everything that a model without data is judged on."""
    return with_limits(synthetic_samples(inputs, dims, seed, count), inputs, dims, seed)


def with_limits(samples: Sequence[Probe], inputs: Specs, dims: Dims, seed: int = 0) -> list[Probe]:
    """The samples, then the same at other sizes (smallest, largest, one no exporter saw), then edge values."""
    rng = np.random.default_rng(seed + 1)
    return [*samples, *_sized(samples, inputs, dims, rng), *_edges(inputs, dims, rng)]


def _sized(samples: Sequence[Probe], inputs: Specs, dims: Dims, rng: np.random.Generator) -> Iterator[Probe]:
    best, batch = best_sizes(dims), batch_dimension(inputs)
    seen = export_sizes(dims)
    points = {name: (unseen_size(dim, seen[name]), dim.min, dim.max) for name, dim in dims.items()}
    done = [best]
    for index in range(3):
        rest = {**best, **{name: sizes[index] for name, sizes in points.items() if name != batch}}
        if rest not in done:
            done.append(rest)
            yield Probe(_label(rest), {name: draw(spec, rest, rng) for name, spec in inputs.items()}, "size", rest)
        if batch and (sizes := {**best, batch: points[batch][index]}) not in done:
            done.append(sizes)
            yield _batch(samples, sizes, sizes[batch])


def _batch(samples: Sequence[Probe], sizes: dict[str, int], count: int) -> Probe:
    """A batch made of the first rows of the samples, so that row k can be compared with sample k."""
    rows = tuple(index % len(samples) for index in range(count))
    inputs = {name: np.concatenate([samples[row].inputs[name][:1] for row in rows]) for name in samples[0].inputs}
    labels = tuple(samples[row].labels[0] for row in rows if samples[row].labels)
    return Probe(_label(sizes), inputs, "size", sizes, rows, labels)


def _label(sizes: Mapping[str, int]) -> str:
    return "size " + ", ".join(f"{name}={size}" for name, size in sizes.items())


def batch_dimension(inputs: Specs) -> str | None:
    """The dynamic dimension that comes first in every input, and nowhere else: the batch."""
    first = {spec.shape[0] if spec.shape else None for spec in inputs.values()}
    name = next(iter(first))
    if len(first) != 1 or not isinstance(name, str):
        return None
    return None if any(name in spec.shape[1:] for spec in inputs.values()) else name


def _edges(inputs: Specs, dims: Dims, rng: np.random.Generator) -> Iterator[Probe]:
    """Legal values at their limits, all inputs at once."""
    sizes = best_sizes(dims)
    for kind in ("zeros", "lowest", "highest", "large", "small"):
        arrays = {name: _edge(spec, sizes, kind, rng) for name, spec in inputs.items()}
        if any(array is not None for array in arrays.values()):
            filled = {name: draw(inputs[name], sizes, rng) if a is None else a for name, a in arrays.items()}
            yield Probe(f"edge {kind}", filled, "edge", sizes)


def _edge(
    spec: TensorSpec, sizes: Mapping[str, int], kind: str, rng: np.random.Generator
) -> np.ndarray[Any, Any] | None:
    """One input at an edge, or None where the edge is not legal for it.

    Floats without a range: zeros, and noise scaled up and down. With a range, and integers: its two ends.
    """
    shape, floating = spec.concrete(sizes), np.issubdtype(spec.dtype, np.floating)
    if floating and spec.range is None:
        scale = {"zeros": 0.0, "large": LARGE, "small": SMALL}.get(kind)
        return None if scale is None else np.asarray(rng.standard_normal(shape) * scale, spec.dtype)
    if spec.dtype == "bool":
        low, high = 0.0, 1.0
    else:
        low, high = spec.range if floating and spec.range else integer_range(spec)
    value = {"lowest": low, "highest": high, "zeros": 0.0 if floating and low <= 0 <= high else None}.get(kind)
    return None if value is None else np.full(shape, value, spec.dtype)
