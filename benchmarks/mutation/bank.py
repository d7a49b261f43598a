"""Inputs of the oracle: many, over the whole declared range of sizes and values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mutation.changes.change import Array
from mutation.formats.graph import Sizes
from mutation.subject import Subject
from runtimes.spec import Arrays, Dims, Specs, TensorSpec, best_sizes
from runtimes.validator.inputs.draws import draw, draw_all, kind_of

ORDINARY, RESIZED, EXTREME = 120, 500, 400
"""How many inputs of each kind: at the best sizes, at other sizes, of unusual values."""
_DEAREST, _FREE = 24.0, 50_000  # elements of an input: in those at the best sizes, and in any case
_WHOLE = 400  # combinations of sizes that are all tried


@dataclass(frozen=True)
class Entry:
    """One input of the bank: ordinary or extreme values, at the best sizes or others."""

    inputs: Arrays
    extreme: bool
    resized: bool


def make_bank(subject: Subject, seed: int) -> list[Entry]:
    """Return the inputs, ordinary ones first, then a mixture."""
    manifest = subject.artifact.manifest
    inputs, dims = manifest.inputs, manifest.dims
    rng = np.random.default_rng([seed, 1])
    real = [probe.inputs for probe in subject.reference.probes if probe.kind == "data"]
    best = best_sizes(dims)
    ordinary = []
    for _ in range(ORDINARY):
        values = _blend(real, rng) if real else draw_all(inputs, best, rng)
        ordinary.append(Entry(values, False, False))
    others = [
        Entry(draw_all(inputs, sizes, rng), False, True) for sizes in _sizes(inputs, dims, rng)
    ]
    for _ in range(EXTREME):
        others.append(Entry(_extreme(inputs, _some(inputs, dims, rng), rng), True, True))
    order = rng.permutation(len(others))
    return [*ordinary, *(others[index] for index in order)]


def _blend(real: list[Arrays], rng: np.random.Generator) -> Arrays:
    """Return a sample between two real ones."""
    first, second = (real[index] for index in rng.integers(len(real), size=2))
    share = rng.uniform(0, 1)
    return {
        name: np.asarray(share * values + (1 - share) * second[name], values.dtype)
        for name, values in first.items()
    }


def _sizes(inputs: Specs, dims: Dims, rng: np.random.Generator) -> Iterator[Sizes]:
    """Yield all combinations of sizes if they are few, else random ones; none that is too dear."""
    count = math.prod(dim.count for dim in dims.values())
    if count <= _WHOLE:
        ranges = [range(dim.min, dim.max + 1, dim.multiple_of) for dim in dims.values()]
        for combination in itertools.product(*ranges):
            sizes = dict(zip(dims, combination, strict=True))
            if _affordable(inputs, sizes, dims):
                yield sizes
    for _ in range(RESIZED):
        yield _some(inputs, dims, rng)


def _some(inputs: Specs, dims: Dims, rng: np.random.Generator) -> Sizes:
    """Return random sizes; the ends are more frequent than others."""
    while True:
        sizes = {}
        for name, dim in dims.items():
            steps = int(rng.choice([0, dim.count - 1, *rng.integers(dim.count, size=4)]))
            sizes[name] = dim.min + steps * dim.multiple_of
        if _affordable(inputs, sizes, dims):
            return sizes


def _affordable(inputs: Specs, sizes: Sizes, dims: Dims) -> bool:
    elements, usual = (
        sum(math.prod(spec.concrete(point)) for spec in inputs.values())
        for point in (sizes, best_sizes(dims))
    )
    return elements <= max(_DEAREST * usual, _FREE)


def _extreme(inputs: Specs, sizes: Sizes, rng: np.random.Generator) -> Arrays:
    form = str(rng.choice(["scaled", "shifted", "constant", "sparse", "ends", "mixed"]))
    return {name: _values(name, spec, sizes, form, rng) for name, spec in inputs.items()}


def _values(
    name: str, spec: TensorSpec, sizes: Sizes, form: str, rng: np.random.Generator
) -> Array:
    """Return legal values that are unusual: of another scale, of one sign, constant, mostly zero."""
    ordinary = draw(name, spec, sizes, rng)
    if not np.issubdtype(spec.dtype, np.floating):
        if form not in ("constant", "ends"):
            return ordinary
        constant = 1 if kind_of(name, spec) == "mask" else ordinary.reshape(-1)[:1]
        return np.broadcast_to(np.asarray(constant, spec.dtype), ordinary.shape).copy()
    low, high = spec.range or (-math.inf, math.inf)
    scale = 10 ** rng.uniform(-3, 3) if spec.range is None else rng.uniform(0, 1)
    values = {
        "scaled": ordinary * scale,
        "shifted": ordinary + rng.uniform(-4, 4),
        "constant": np.full(ordinary.shape, rng.standard_normal() * scale),
        "sparse": ordinary * scale * (rng.random(ordinary.shape) < 0.05),
        "ends": np.sign(ordinary) * (scale if spec.range is None else high),
        "mixed": ordinary * 10 ** rng.uniform(-2, 2, ordinary.shape),
    }[form]
    return np.asarray(np.clip(values, low, high), spec.dtype)
