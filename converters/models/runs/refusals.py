"""Sizes of its own `dims:` that the eager model refuses, in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from runtimes.relations import parse_relation
from runtimes.validator.inputs.sizes import Sizes, label

_SHOWN = 3  # refused sizes that a message names


def describe_refusals(refused: Sequence[Sizes], accepted: Sequence[Sizes], error: str) -> str:
    """Return a message: which sizes the model refuses, why, and what to write instead.

    Args:
        refused: sizes at which the model raised.
        accepted: sizes at which it ran.
        error: the first error.
    """
    some = "; ".join(label(sizes) for sizes in refused[:_SHOWN])
    more = ", ..." if len(refused) > _SHOWN else ""
    counts = f"{len(refused)} of {len(refused) + len(accepted)} sizes of its own `dims:`"
    advice = _advice(refused, accepted)
    return f"the eager model refuses {counts}: {some}{more} ({error}); {advice}"


def _advice(refused: Sequence[Sizes], accepted: Sequence[Sizes]) -> str:
    """Return what to write: a relation that tells both kinds of sizes apart, or their unit."""
    if relation := next(_relations(refused, accepted), None):
        return f"those that it takes fit `{relation}`: state this relation in `dims:`"
    units = {name: _unit(name, refused, accepted) for name in refused[0]}
    fixes = [f"`{name}: {{multiple_of: {unit}}}`" for name, unit in units.items() if unit > 1]
    explained = all(any(sizes[name] % unit for name, unit in units.items()) for sizes in refused)
    if fixes and explained:
        return f"those that it takes fit {', '.join(fixes)}: state this, or a smaller unit"
    return "narrow `dims:`"


def _unit(name: str, refused: Sequence[Sizes], accepted: Sequence[Sizes]) -> int:
    """Return the unit of all accepted sizes of a dimension, if some refused size lacks it; or 1."""
    unit = math.gcd(*(sizes[name] for sizes in accepted))
    return unit if unit and any(sizes[name] % unit for sizes in refused) else 1


def _relations(refused: Sequence[Sizes], accepted: Sequence[Sizes]) -> Iterator[str]:
    """Yield the relations that all accepted sizes fit and no refused one, the simplest first.

    A dimension that is written later follows from those before rather than the other way round. A
    size of 1 is broadcast, whatever the relation: such accepted sizes prove nothing.
    """
    for name in reversed(list(refused[0])):
        telling = [sizes for sizes in accepted if sizes[name] > 1]
        for text in _candidates(name, telling):
            size = parse_relation(text).size
            fits = all(sizes[name] == size(sizes) for sizes in telling)
            if telling and fits and all(sizes[name] != size(sizes) for sizes in refused):
                yield f"{name}: {text}"


def _candidates(name: str, accepted: Sequence[Sizes]) -> Iterator[str]:
    """Yield relations of a dimension: to the sum of two others; to one, if two sizes agree on it."""
    others = [other for other in (accepted[0] if accepted else ()) if other != name]
    for first, second in itertools.combinations(others, 2):
        yield f"{first} + {second}"
    if len({sizes[name] for sizes in accepted}) < 2:
        return
    for other in others:
        yield other
        if (added := accepted[0][name] - accepted[0][other]) > 0:
            yield f"{other} + {added}"
        times, rest = divmod(accepted[0][name], accepted[0][other])
        if times > 1 and not rest:
            yield f"{times} * {other}"
