"""A design of sizes to probe that covers each dimension, and pairs of dimensions.

Method: combinatorial interaction testing. Faults that depend on sizes show at one size of one
dimension or at a pair (Kuhn, Wallace and Gallo, IEEE TSE 2004), so each candidate is tried once,
and each pair of ends at least once.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from runtimes.spec import Dims, Specs, best_sizes, complete_sizes, export_sizes, free_dims
from runtimes.validator.defaults import (
    FREE_SIZES,
    LARGE_PAIR,
    PAIRS_COST,
    PROBED_SIZES,
    SIZE_BYTES,
    SIZE_COST,
    SIZE_OPERATORS,
    SIZE_WORK,
)
from runtimes.validator.inputs.sizes import Sizes, candidates, unseen_size

_DEAR = 2.0  # cost beyond which the dimensions that a probe is not about shrink


@dataclass(frozen=True)
class Budget:
    """Budget of the sizes beyond those that are always tried.

    Attributes:
        count: how many there may be.
        cost: elements of their inputs, in those of one run at the best sizes.
    """

    count: int = PROBED_SIZES
    cost: float = SIZE_COST


@dataclass(frozen=True)
class Work:
    """Work of one run of the eager model at the best sizes.

    Attributes:
        multiply_adds: an estimate, rather too high.
        operators: calls of torch's operators.
    """

    multiply_adds: int
    operators: int


def size_budget(inputs: Specs, dims: Dims, count: int | None, work: Work | None) -> Budget:
    """Return the budget of a model: larger than the usual if its runs are almost free.

    Args:
        inputs, dims: of the model.
        count: largest number of sizes; None: PROBED_SIZES, or up to FREE_SIZES if runs are almost free.
        work: of a run; None if it is not known.
    """
    if work is None:
        return Budget(PROBED_SIZES if count is None else count)
    best = best_sizes(dims)
    size = sum(
        math.prod(spec.concrete(best)) * np.dtype(spec.dtype).itemsize for spec in inputs.values()
    )
    free = min(SIZE_WORK / max(1, work.multiply_adds), SIZE_BYTES / max(1, size))
    most = PROBED_SIZES
    if free > SIZE_COST:
        most = max(most, min(FREE_SIZES, SIZE_OPERATORS // max(1, work.operators)))
    return Budget(most if count is None else count, max(float(SIZE_COST), free))


def design(dims: Dims, batch: str | None, budget: Budget) -> list[Sizes]:
    """Return sizes to probe beside the best ones, the most important first.

    Each dimension's unseen size and its ends are always among them. Together the others cost at
    most the budget and PAIRS_COST, or twice as much as the most expensive one that is always tried.
    Dimensions that follow from others have those sizes.

    Args:
        dims: of the model.
        batch: the dimension that is a batch, if there is one.
        budget: of the others.
    """
    free = free_dims(dims)
    return [complete_sizes(sizes, dims) for sizes in _design(free, batch, budget)]


def _design(dims: Dims, batch: str | None, budget: Budget) -> list[Sizes]:
    best = best_sizes(dims)
    chosen = list(_always(dims, batch))
    pairs = PAIRS_COST if batch and len(dims) > 1 else 0.0
    left = max(budget.cost + pairs, *(2 * _cost(sizes, best) for sizes in chosen), 0.0)
    others = _others(dims) if budget.cost > SIZE_COST else iter(())
    extra = 0
    for sizes in itertools.chain(_interleaved(dims, batch), others):
        cost = _cost(sizes, best)
        if extra >= budget.count:
            break
        if sizes == best or sizes in chosen or cost > left:
            continue
        chosen.append(sizes)
        left -= cost
        extra += 1
    return chosen


def _always(dims: Dims, batch: str | None) -> Iterator[Sizes]:
    """Yield the unseen sizes and the ends: of all other dimensions at once, then of the batch."""
    best, exported = best_sizes(dims), export_sizes(dims)
    points: dict[str, tuple[int, int, int]] = {}
    for name, dim in dims.items():
        points[name] = unseen_size(dim, exported[name]), dim.min, dim.max
    done = [best]
    for index in range(3):
        at_point = {name: sizes[index] for name, sizes in points.items() if name != batch}
        batched = {batch: points[batch][index]} if batch else {}
        for sizes in ({**best, **at_point}, {**best, **batched}):
            if sizes not in done:
                done.append(sizes)
                yield sizes


def _interleaved(dims: Dims, batch: str | None) -> Iterator[Sizes]:
    """Yield pairs and candidates of single dimensions in turns, so that neither is left out."""
    large = _large_batches(dims, batch) if batch else iter(())
    turns = [_pairs(dims, batch), large, *(_single(dims, name) for name in dims)]
    for sizes in itertools.chain.from_iterable(itertools.zip_longest(*turns)):
        if sizes is not None:
            yield sizes


def _single(dims: Dims, name: str) -> Iterator[Sizes]:
    """Yield a dimension's candidates; the others take theirs in turn, shifted, where they differ."""
    exported, best = export_sizes(dims), best_sizes(dims)
    others = {other: candidates(dim, exported[other]) for other, dim in dims.items()}
    for index, size in enumerate(candidates(dims[name], exported[name])):
        sizes = dict(best)
        for shift, (other, cycle) in enumerate(others.items()):
            if other != name:
                sizes[other] = cycle[(index * (shift + 2) + shift) % len(cycle)]
        yield _affordable({**sizes, name: size}, (name,), dims)


def _large_batches(dims: Dims, batch: str) -> Iterator[Sizes]:
    """Yield large batches beside each dimension's sizes over the best one and over twice as much.

    All dimensions but the batch are tried together at their largest; with the batch that is dear.
    So the third dimension is at its smallest, and the batch as large as LARGE_PAIR allows.
    """
    best, exported = best_sizes(dims), export_sizes(dims)
    smallest = {name: dim.min for name, dim in dims.items()}
    batches = sorted(candidates(dims[batch], exported[batch]), reverse=True)
    for factor in (1, 2):
        for name in dims:
            larger = [
                size
                for size in candidates(dims[name], exported[name])
                if name != batch and size > factor * best[name]
            ]
            if larger:
                beside = {**smallest, name: min(larger)}
                fitting = ({**beside, batch: size} for size in batches)
                yield next(
                    (sizes for sizes in fitting if _cost(sizes, best) <= LARGE_PAIR),
                    {**beside, batch: batches[-1]},
                )


def _others(dims: Dims) -> Iterator[Sizes]:
    """Yield all further sizes of each dimension; the others are drawn by a fixed seed."""
    rng = random.Random(0)
    ranges = {name: range(dim.min, dim.max + 1, dim.multiple_of) for name, dim in dims.items()}
    for name, sizes in ranges.items():
        for size in sizes[:FREE_SIZES]:
            drawn = {other: rng.choice(range_) for other, range_ in ranges.items()}
            yield {**drawn, name: size}


def _affordable(sizes: Sizes, varied: tuple[str, ...], dims: Dims) -> Sizes:
    """Return sizes whose dimensions other than the varied ones shrink until the probe is cheap.

    A fault of large batches shows on small pictures too.
    """
    exported, best, smaller = export_sizes(dims), best_sizes(dims), dict(sizes)
    while _cost(smaller, best) > _DEAR:
        left = [name for name in dims if name not in varied and smaller[name] > dims[name].min]
        if not left:
            break
        name = max(left, key=lambda name: smaller[name] / best[name])
        steps = candidates(dims[name], exported[name])
        smaller[name] = max(step for step in steps if step < smaller[name])
    return smaller


def _pairs(dims: Dims, batch: str | None) -> Iterator[Sizes]:
    """Yield opposite ends of each pair of dimensions, then unseen sizes with ends."""
    best, exported = best_sizes(dims), export_sizes(dims)
    pairs = sorted(itertools.combinations(dims, 2), key=lambda pair: batch in pair)
    unseen = {name: unseen_size(dim, exported[name]) for name, dim in dims.items()}

    def pair(first: tuple[str, int], second: tuple[str, int]) -> Sizes:
        return _affordable({**best, **dict([first, second])}, (first[0], second[0]), dims)

    for a, b in pairs:
        yield pair((a, dims[a].min), (b, dims[b].max))
        yield pair((a, dims[a].max), (b, dims[b].min))
    for a, b in pairs:
        yield pair((a, unseen[a]), (b, dims[b].max))
        yield pair((a, dims[a].max), (b, unseen[b]))
        if batch in (a, b):  # others are tried together already
            yield pair((a, dims[a].min), (b, dims[b].min))
            yield pair((a, unseen[a]), (b, unseen[b]))


def _cost(sizes: Mapping[str, int], best: Mapping[str, int]) -> float:
    """Return how many times as many elements a probe has as one at the best sizes."""
    cost = 1.0
    for name, size in sizes.items():
        cost *= size / best[name]
    return max(cost, 0.05)
