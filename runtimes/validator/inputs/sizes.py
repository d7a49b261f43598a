"""Sizes of dynamic dimensions: those at which implementations change, and accounts of them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from runtimes.results import DimSizes, SizesTried
from runtimes.spec import DimRange, Dims, complete_sizes, export_sizes, free_dims

Sizes = dict[str, int]
"""One size for each dynamic dimension."""
_WHOLE = 32  # sizes of a range that is tried whole
_MOST = 20_000  # combinations of sizes that a condition is evaluated for


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
