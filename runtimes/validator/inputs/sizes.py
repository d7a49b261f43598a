"""Sizes to probe: a design that covers each dimension, and pairs of dimensions.

Method: combinatorial interaction testing. Faults that depend on sizes show at one size of one
dimension or at a pair (Kuhn, Wallace and Gallo, IEEE TSE 2004), so each candidate is tried once,
and each pair of ends at least once.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from runtimes.results import DimSizes, SizesTried
from runtimes.spec import DimRange, Dims, best_sizes, complete_sizes, export_sizes, free_dims
from runtimes.validator.defaults import SIZE_COST

Sizes = dict[str, int]
"""One size for each dynamic dimension."""
_WHOLE = 32  # sizes of a range that is tried whole
_MOST = 20_000  # combinations of sizes that a condition is evaluated for
_DEAR = 2.0  # cost beyond which the dimensions that a probe is not about shrink


def label(sizes: Mapping[str, int]) -> str:
    """Return the sizes in words."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def sizes_tried(sizes: Iterable[Mapping[str, int]], dims: Dims) -> SizesTried | None:
    """Summarize the sizes of probes as a share of the legal ones; None if all sizes are fixed."""
    free = free_dims(dims)
    if not free:
        return None
    complete = [probe for probe in sizes if free.keys() <= probe.keys()]
    combinations = {tuple(probe[name] for name in free) for probe in complete}
    by_dim = {}
    for index, (name, dim) in enumerate(free.items()):
        tried = sorted({combination[index] for combination in combinations})
        by_dim[name] = DimSizes(tried=tried, legal=dim.count)
    legal = math.prod(dim.count for dim in free.values())
    return SizesTried(tried=len(combinations), legal=legal, dims=by_dim)


def unseen_size(dim: DimRange, exported: int) -> int:
    """Return a legal size that neither the exporter saw nor `opt` names, if the range has one.

    Small odd sizes come first: they are cheap, and no power of two hides a baked-in reshape. Of
    multiples those are odd that have an odd factor.
    """
    step = dim.multiple_of
    odd = dim.min + step * (1 + dim.min // step % 2)
    sizes = (3, 5, 7, odd, dim.min, dim.max, exported + step, exported - step)
    legal = [size for size in sizes if dim.allows(size)]
    for avoided in ((exported, dim.best), (exported,)):
        for size in legal:
            if size not in avoided:
                return size
    return exported


def candidates(dim: DimRange, exported: int) -> list[int]:
    """Return the legal sizes at which implementations change, the most telling first.

    An unseen size and the ends; one more than the smallest; odd and prime sizes; powers of two with
    their neighbours, where kernels, tiles and tables end; multiples of 8 and 32. A small range is
    returned whole.
    """
    step = dim.multiple_of
    sizes = [unseen_size(dim, exported), dim.min, dim.max, dim.min + step, exported, dim.best]
    powers = [2**power for power in range(dim.max.bit_length(), -1, -1)]
    # First one more than each power: every range between two powers then has a size in it.
    around = [power + shift for shift in (1, -1, 0) for power in powers]
    middle = (dim.min + dim.max) // 2
    primes = [size for size in range(middle, dim.max) if _is_prime(size)][:1]
    multiples = [size // unit * unit for unit in (32, 8) for size in (middle, dim.max)]
    sizes += [middle | 1, *primes, *around, *multiples]
    if dim.count <= _WHOLE:
        sizes += range(dim.min, dim.max + 1, step)
    sizes += [size // step * step for size in (*around, middle)]
    return [size for size in dict.fromkeys(sizes) if dim.allows(size)]


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def design(dims: Dims, batch: str | None, count: int) -> list[Sizes]:
    """Return sizes to probe beside the best ones, the most important first.

    Args:
        dims: of the model.
        batch: the dimension that is a batch, if there is one.
        count: largest number of sizes, beyond those that are always tried: each dimension's unseen
            size and its ends.

    Together the others cost at most SIZE_COST samples at the best sizes, or twice as much as the
    most expensive one that is always tried. Dimensions that follow from others have those sizes.
    """
    free = free_dims(dims)
    return [complete_sizes(sizes, dims) for sizes in _design(free, batch, count)]


def _design(dims: Dims, batch: str | None, count: int) -> list[Sizes]:
    best = best_sizes(dims)
    chosen = list(_always(dims, batch))
    left = max(SIZE_COST, *(2 * _cost(sizes, best) for sizes in chosen)) if chosen else 0.0
    extra = 0
    for sizes in _interleaved(dims, batch):
        cost = _cost(sizes, best)
        if extra >= count or sizes == best or sizes in chosen or cost > left:
            continue
        chosen.append(sizes)
        left -= cost
        extra += 1
    return chosen


def legal_sizes(dims: Dims, names: Sequence[str], limit: int = _MOST) -> list[Sizes]:
    """Return the legal sizes of some dimensions together: all, or at most `limit` of them.

    If there are more, each dimension takes the sizes at which implementations change, and then a
    seeded sample of the pairs is drawn.
    """
    free = free_dims(dims)
    roots: dict[str, None] = {}
    for name in names:
        relation = dims[name].relation
        roots.update(dict.fromkeys(relation.names if relation else (name,)))
    ranges: list[Sequence[int]] = []
    for name in roots:
        dim = free[name]
        ranges.append(range(dim.min, dim.max + 1, dim.multiple_of))
    if math.prod(map(len, ranges)) > limit:
        exported = export_sizes(dims)
        ranges = [candidates(free[name], exported[name]) for name in roots]
    count = math.prod(map(len, ranges))
    combinations: Iterable[tuple[int, ...]] = itertools.product(*ranges)
    if count > limit:
        rng = random.Random(0)
        combinations = [tuple(map(rng.choice, ranges)) for _ in range(limit)]
    others = {name: dim.best for name, dim in free.items()}
    result = []
    for combination in combinations:
        sizes = complete_sizes({**others, **dict(zip(roots, combination, strict=True))}, dims)
        result.append({name: sizes[name] for name in names})
    return result


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
    turns = [_pairs(dims, batch), *(_single(dims, name) for name in dims)]
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
