"""Probes: the validator's inputs. Samples, edge values, and every dynamic size that matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from runtimes.spec import Arrays, DimRange, Dims, Specs, TensorSpec, best_sizes, export_sizes
from runtimes.validator.defaults import LARGE, SMALL, SYNTHETIC_PROBES

ProbeKind = Literal["data", "noise", "size", "edge"]
"""data: real samples; noise: seeded; size: samples at other sizes; edge: extreme legal values."""


@dataclass(frozen=True)
class Probe:
    """One set of inputs.

    Attributes:
        name: as verdicts cite it.
        inputs: one array per input.
        kind: see `ProbeKind`; lossy artifacts are not judged on `edge`.
        sizes: the dynamic dimensions.
        rows: for a batch of the first rows of other probes: the indices of these probes.
        labels: the true classes of the samples, if they are known.
    """

    name: str
    inputs: Arrays
    kind: ProbeKind = "noise"
    sizes: dict[str, int] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()


def unseen_size(dim: DimRange, exported: int) -> int:
    """Return a legal size that neither the exporter saw nor `opt` names, if the range has one.

    Small odd sizes come first: they are cheap, and no power of two hides a baked-in reshape.
    """
    sizes = (3, 5, 7, dim.min, dim.max, exported + 1, exported - 1)
    legal = [size for size in sizes if dim.min <= size <= dim.max]
    for avoided in ((exported, dim.best), (exported,)):
        for size in legal:
            if size not in avoided:
                return size
    return exported


def draw(
    spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Draw seeded noise for one input: standard normal for floats without a range, else uniform."""
    shape = spec.concrete(sizes)
    if spec.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape), bool)
    if np.issubdtype(spec.dtype, np.floating):
        draws = (
            rng.standard_normal(shape) if spec.range is None else rng.uniform(*spec.range, shape)
        )
        return np.asarray(draws, spec.dtype)  # a draw without dimensions is a Python number
    low, high = integer_range(spec)
    return np.asarray(rng.integers(low, high, shape, endpoint=True), spec.dtype)


def integer_range(spec: TensorSpec) -> tuple[int, int]:
    """Return the smallest and largest legal integer of an input: its range, cut to the dtype's."""
    limits = np.iinfo(spec.dtype)
    low, high = spec.range or (0, 1)
    return max(math.ceil(low), int(limits.min)), min(math.floor(high), int(limits.max))


def synthetic_samples(
    inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES
) -> list[Probe]:
    """Draw seeded noise at the sizes to be fastest at."""
    rng, sizes = np.random.default_rng(seed), best_sizes(dims)
    return [
        Probe(f"noise {number}", _draw_all(inputs, sizes, rng), "noise", sizes)
        for number in range(count)
    ]


def _draw_all(inputs: Specs, sizes: Mapping[str, int], rng: np.random.Generator) -> Arrays:
    return {name: draw(spec, sizes, rng) for name, spec in inputs.items()}


def synthetic_probes(
    inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES
) -> list[Probe]:
    """Return all probes of a model without data."""
    return with_limits(synthetic_samples(inputs, dims, seed, count), inputs, dims, seed)


def with_limits(samples: Sequence[Probe], inputs: Specs, dims: Dims, seed: int = 0) -> list[Probe]:
    """Return the samples, then probes at other sizes, then edge values.

    The other sizes are the smallest, the largest, and one that no exporter saw.
    """
    rng = np.random.default_rng(seed + 1)
    return [*samples, *_sized(samples, inputs, dims, rng), *_edges(inputs, dims, rng)]


def _sized(
    samples: Sequence[Probe], inputs: Specs, dims: Dims, rng: np.random.Generator
) -> Iterator[Probe]:
    best, batch = best_sizes(dims), batch_dimension(inputs)
    exported = export_sizes(dims)
    points: dict[str, tuple[int, int, int]] = {}
    for name, dim in dims.items():
        points[name] = unseen_size(dim, exported[name]), dim.min, dim.max
    done = [best]
    for index in range(3):
        at_point = {name: sizes[index] for name, sizes in points.items() if name != batch}
        resized = {**best, **at_point}
        if resized not in done:
            done.append(resized)
            yield Probe(_label(resized), _draw_all(inputs, resized, rng), "size", resized)
        if batch and (sizes := {**best, batch: points[batch][index]}) not in done:
            done.append(sizes)
            yield _batch(samples, sizes, sizes[batch])


def _batch(samples: Sequence[Probe], sizes: dict[str, int], count: int) -> Probe:
    """Make a batch of the samples' first rows, so that row k can be compared with sample k."""
    rows = tuple(index % len(samples) for index in range(count))
    batched = [samples[row] for row in rows]
    inputs: Arrays = {}
    for name in samples[0].inputs:
        inputs[name] = np.concatenate([sample.inputs[name][:1] for sample in batched])
    labels = tuple(sample.labels[0] for sample in batched if sample.labels)
    return Probe(_label(sizes), inputs, "size", sizes, rows, labels)


def _label(sizes: Mapping[str, int]) -> str:
    return "size " + ", ".join(f"{name}={size}" for name, size in sizes.items())


def batch_dimension(inputs: Specs) -> str | None:
    """Return the dynamic dimension that comes first in every input and nowhere else, or None."""
    first = {spec.shape[0] if spec.shape else None for spec in inputs.values()}
    name = next(iter(first))
    if len(first) != 1 or not isinstance(name, str):
        return None
    return None if any(name in spec.shape[1:] for spec in inputs.values()) else name


def _edges(inputs: Specs, dims: Dims, rng: np.random.Generator) -> Iterator[Probe]:
    """Yield extreme legal values, of all inputs at once; inputs without such an edge get noise."""
    sizes = best_sizes(dims)
    for kind in ("zeros", "lowest", "highest", "large", "small"):
        edges = {name: _edge(spec, sizes, kind, rng) for name, spec in inputs.items()}
        if all(edge is None for edge in edges.values()):
            continue
        arrays: Arrays = {}
        for name, edge in edges.items():
            arrays[name] = draw(inputs[name], sizes, rng) if edge is None else edge
        yield Probe(f"edge {kind}", arrays, "edge", sizes)


def _edge(
    spec: TensorSpec, sizes: Mapping[str, int], kind: str, rng: np.random.Generator
) -> np.ndarray[Any, Any] | None:
    """Return one input at an edge, or None if the edge is not legal for it.

    The edges of floats without a range are zeros and noise scaled up and down; those of integers
    and of floats with a range are its two ends.
    """
    shape, floating = spec.concrete(sizes), np.issubdtype(spec.dtype, np.floating)
    if floating and spec.range is None:
        scale = {"zeros": 0.0, "large": LARGE, "small": SMALL}.get(kind)
        return None if scale is None else np.asarray(rng.standard_normal(shape) * scale, spec.dtype)
    if spec.dtype == "bool":
        low, high = 0.0, 1.0
    else:
        low, high = spec.range if floating and spec.range else integer_range(spec)
    zero = 0.0 if floating and low <= 0 <= high else None
    value = {"lowest": low, "highest": high, "zeros": zero}.get(kind)
    return None if value is None else np.full(shape, value, spec.dtype)
