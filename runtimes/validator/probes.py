"""Probes: the validator's inputs. Samples, edge values, and every dynamic size that matters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from runtimes.spec import Arrays, Dims, Specs, TensorSpec, best_sizes
from runtimes.validator.defaults import LARGE, PROBED_SIZES, SMALL, SYNTHETIC_PROBES
from runtimes.validator.sizes import design, label

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
        rows: for a batch that begins with the first rows of other probes: the indices of these.
        labels: the true classes of the samples, if they are known.
    """

    name: str
    inputs: Arrays
    kind: ProbeKind = "noise"
    sizes: dict[str, int] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()


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


def with_limits(
    samples: Sequence[Probe],
    inputs: Specs,
    dims: Dims,
    seed: int = 0,
    sizes: int = PROBED_SIZES,
) -> list[Probe]:
    """Return the samples, then probes at other sizes, then edge values.

    `sizes`: how many sizes to try beyond each dimension's ends and one that no exporter saw.
    """
    rng = np.random.default_rng(seed + 1)
    sized = _sized(samples, inputs, dims, rng, sizes)
    return [*samples, *sized, *_edges(inputs, dims, rng)]


def _sized(
    samples: Sequence[Probe], inputs: Specs, dims: Dims, rng: np.random.Generator, count: int
) -> Iterator[Probe]:
    best, batch = best_sizes(dims), batch_dimension(inputs)
    for sizes in design(dims, batch, count):
        if batch and {**sizes, batch: best[batch]} == best:
            yield _batch(samples, inputs, sizes, batch, rng)
        else:
            yield Probe(f"size {label(sizes)}", _draw_all(inputs, sizes, rng), "size", sizes)


def _batch(
    samples: Sequence[Probe],
    inputs: Specs,
    sizes: dict[str, int],
    batch: str,
    rng: np.random.Generator,
) -> Probe:
    """Make a batch of the samples' first rows, so that row k can be compared with sample k.

    Of samples of several sizes it takes those of the most frequent one. No two rows are equal:
    without samples enough, further rows are samples blended with noise. Otherwise a batch whose
    rows were exchanged might look right.
    """
    count = sizes[batch]
    alike = _alike(samples, batch)
    rows = tuple(alike[:count])
    sizes = {**sizes, **samples[rows[0]].sizes, batch: count}
    added = count - len(rows)
    arrays: Arrays = {}
    for name, spec in inputs.items():
        parts = [samples[row].inputs[name][:1] for row in rows]
        if added:
            noise = draw(spec, {**sizes, batch: added}, rng)
            base = np.concatenate([parts[index % len(rows)] for index in range(added)])
            parts.append(_blend(base, noise, rng))
        arrays[name] = np.concatenate(parts)
    labels = tuple(samples[row].labels[0] for row in rows if samples[row].labels)
    return Probe(f"size {label(sizes)}", arrays, "size", sizes, rows, labels)


def _alike(samples: Sequence[Probe], batch: str) -> list[int]:
    """Return the indices of the samples that have the most frequent sizes, but for the batch."""
    groups: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for index, sample in enumerate(samples):
        sizes = {name: size for name, size in sample.sizes.items() if name != batch}
        groups.setdefault(tuple(sizes.items()), []).append(index)
    return max(groups.values(), key=len)


def _blend(
    base: np.ndarray[Any, Any], noise: np.ndarray[Any, Any], rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Return rows between two; integers and booleans are taken from either."""
    if np.issubdtype(base.dtype, np.floating):
        share = rng.uniform(0.5, 0.9, (len(base), *(1,) * (base.ndim - 1)))
        return np.asarray(share * base + (1 - share) * noise, base.dtype)
    return np.where(rng.random(base.shape) < _KEPT, base, noise)


_KEPT = 0.7  # share of integers that a blend takes from its sample


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
