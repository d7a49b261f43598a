"""Sizes of its own `dims:` that the eager model refuses, in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

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
    units = {name: _unit(name, refused, accepted) for name in refused[0]}
    fixes = [f"`{name}: {{multiple_of: {unit}}}`" for name, unit in units.items() if unit > 1]
    explained = all(any(sizes[name] % unit for name, unit in units.items()) for sizes in refused)
    advice = "narrow `dims:`"
    if equal := _equal(refused, accepted):
        first, second = equal
        advice = f"those that it takes have {first} = {second}: state it (`{second}: {first}`)"
    elif fixes and explained:
        advice = f"those that it takes fit {', '.join(fixes)}: state this, or a smaller unit"
    return f"the eager model refuses {counts}: {some}{more} ({error}); {advice}"


def _unit(name: str, refused: Sequence[Sizes], accepted: Sequence[Sizes]) -> int:
    """Return the unit of all accepted sizes of a dimension, if some refused size lacks it; or 1."""
    unit = math.gcd(*(sizes[name] for sizes in accepted))
    return unit if unit and any(sizes[name] % unit for sizes in refused) else 1


def _equal(refused: Sequence[Sizes], accepted: Sequence[Sizes]) -> tuple[str, str] | None:
    """Return two dimensions that are equal in all accepted sizes and in no refused one."""
    for first, second in itertools.combinations(refused[0], 2):
        alike = all(sizes[first] == sizes[second] for sizes in accepted)
        if alike and accepted and all(sizes[first] != sizes[second] for sizes in refused):
            return first, second
    return None
