"""Probes: the inputs that the validator runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from runtimes.spec import Arrays, DimRange, Dims, Specs, TensorSpec
from runtimes.validator.defaults import SYNTHETIC_PROBES


@dataclass(frozen=True)
class Probe:
    """One set of inputs, with a name that a verdict can cite."""

    name: str
    inputs: Arrays
    synthetic: bool = True
    sizes: dict[str, int] = field(default_factory=dict)


def export_sizes(dims: Dims) -> dict[str, int]:
    """The sizes an exporter traces with: never 0 or 1, which exporters specialise, where the range allows."""
    return {name: max(dim.best, min(2, dim.max)) for name, dim in dims.items()}


def unseen_size(dim: DimRange, seen: int) -> int:
    """A legal size that neither the exporter saw nor `opt` asks for, as far as the range has one.

    Small odd sizes first: they are cheap, and no power of two hides a baked-in reshape.
    """
    candidates = [size for size in (3, 5, 7, dim.min, dim.max, seen + 1, seen - 1) if dim.min <= size <= dim.max]
    fresh = [size for size in candidates if size not in (seen, dim.best)]
    return next(iter(fresh or [size for size in candidates if size != seen] or [seen]))


def draw(spec: TensorSpec, sizes: dict[str, int], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Seeded noise for one input: standard normal for floats (uniform where a range is given), else uniform."""
    shape = spec.concrete(sizes)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if np.issubdtype(spec.dtype, np.floating):
        values = rng.standard_normal(shape) if spec.range is None else rng.uniform(*spec.range, shape)
        return values.astype(spec.dtype)
    low, high = spec.range or (0, 1)
    return rng.integers(int(low), int(high) + 1, shape).astype(spec.dtype)


def synthetic_probes(inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES) -> list[Probe]:
    """Seeded probes: `count` at the sizes to be fastest at, then one at sizes that no exporter saw."""
    rng = np.random.default_rng(seed)
    best = {name: dim.best for name, dim in dims.items()}
    probes = [_probe(f"noise {number}", inputs, best, rng) for number in range(count)]
    seen = export_sizes(dims)
    unseen = {name: unseen_size(dim, seen[name]) for name, dim in dims.items()}
    if unseen != best:
        label = ", ".join(f"{name}={size}" for name, size in unseen.items())
        probes.append(_probe(f"noise at {label}", inputs, unseen, rng))
    return probes


def _probe(name: str, inputs: Specs, sizes: dict[str, int], rng: np.random.Generator) -> Probe:
    return Probe(name, {key: draw(spec, sizes, rng) for key, spec in inputs.items()}, True, dict(sizes))
