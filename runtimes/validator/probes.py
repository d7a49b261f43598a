"""Probes: the validator's inputs. Samples, edge values, and every dynamic size that matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from runtimes.spec import Arrays, Dims, Specs, best_sizes
from runtimes.validator.defaults import SYNTHETIC_PROBES
from runtimes.validator.inputs.design import Budget, Work, design, size_budget
from runtimes.validator.inputs.draws import draw, draw_all
from runtimes.validator.inputs.ids import covering, roomy
from runtimes.validator.inputs.regions import UNDECLARED, not_finite, regions
from runtimes.validator.inputs.sizes import label

ProbeKind = Literal["data", "noise", "size", "ids", "edge", "nan"]
"""data: real samples; noise: seeded; size: samples at other sizes; ids: noise with ids that samples
lack; edge: unusual legal values; nan: noise with a NaN or an Inf in it."""


@dataclass(frozen=True)
class Probe:
    """One set of inputs.

    Attributes:
        name: as verdicts cite it.
        inputs: one array per input.
        kind: see `ProbeKind`; lossy artifacts are judged on the ordinary ones only.
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

    @property
    def ordinary(self) -> bool:
        """Whether the values are as usual: every artifact is judged on them."""
        return self.kind not in ("edge", "nan")

    @property
    def optional(self) -> bool:
        """Whether a model may refuse the values: nobody said that they are legal."""
        return self.kind == "nan" or self.name.removeprefix("edge ") in UNDECLARED

    @property
    def sample(self) -> bool:
        """Whether this is one of the samples that everything else is made from."""
        return self.kind in ("data", "noise")


def synthetic_samples(
    inputs: Specs, dims: Dims, seed: int = 0, count: int = SYNTHETIC_PROBES
) -> list[Probe]:
    """Draw seeded noise at the sizes to be fastest at."""
    rng, sizes = np.random.default_rng(seed), best_sizes(dims)
    return [
        Probe(f"noise {number}", draw_all(inputs, sizes, rng), "noise", sizes)
        for number in range(count)
    ]


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
    sizes: int | None = None,
    work: Work | None = None,
) -> list[Probe]:
    """Return the samples, then probes at other sizes, then unusual values.

    `sizes`: how many sizes to try beyond each dimension's ends and one that no exporter saw; `work`:
    of a run: see `size_budget`.
    """
    rng = np.random.default_rng(seed + 1)
    sized = _sized(samples, inputs, dims, rng, size_budget(inputs, dims, sizes, work))
    return [*samples, *sized, *_unusual(samples, inputs, dims, rng)]


def _sized(
    samples: Sequence[Probe], inputs: Specs, dims: Dims, rng: np.random.Generator, budget: Budget
) -> Iterator[Probe]:
    best, batch = best_sizes(dims), batch_dimension(inputs)
    for sizes in design(dims, batch, budget):
        if batch and {**sizes, batch: best[batch]} == best:
            yield _batch(samples, inputs, sizes, batch, rng)
        else:
            yield Probe(f"size {label(sizes)}", draw_all(inputs, sizes, rng), "size", sizes)


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
            noise = draw(name, spec, {**sizes, batch: added}, rng)
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


def _unusual(
    samples: Sequence[Probe], inputs: Specs, dims: Dims, rng: np.random.Generator
) -> Iterator[Probe]:
    """Yield ids that the samples lack, then regions of unusual values, then NaN and Inf."""
    batch = batch_dimension(inputs)
    contained = [sample.inputs for sample in samples]
    wide = roomy(inputs, dims, batch)
    for number, arrays in enumerate(covering(inputs, wide, contained, rng)):
        yield Probe(f"ids {number}", arrays, "ids", wide)
    for region, sizes, arrays in regions(inputs, dims, batch, rng):
        yield Probe(f"edge {region}", arrays, "edge", sizes)
    best = best_sizes(dims)
    for name, arrays in not_finite(inputs, best, rng):
        yield Probe(name, arrays, "nan", best)
