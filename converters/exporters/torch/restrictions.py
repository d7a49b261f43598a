"""Restrictions: guards that do not hold at each size of `dims:`, and what to do about them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.errors import Refused
from converters.exporters.torch.guards import Guard, find_guards
from converters.models.facts import ModelFacts
from runtimes.spec import Dims
from runtimes.validator.inputs.sizes import Sizes, legal_sizes

if TYPE_CHECKING:
    import torch

_EQUATION = re.compile(r"\(?([\w *+-]+?)\)? == \(?([\w *+-]+?)\)?")
_SHOWN = 3  # sizes, conditions and source lines that a message names
_WORTH = 0.05  # share of the legal sizes below which it is no use to state them in the recipe


@dataclass(frozen=True)
class Restriction:
    """Guards on the same dimensions that do not hold at each of their legal sizes.

    Attributes:
        dims: the dimensions.
        conditions, sources: of the guards.
        allowed: the sizes at which all of them hold, of those that were tried; in order.
        tried: count of the sizes that were tried.
    """

    dims: tuple[str, ...]
    conditions: tuple[str, ...]
    sources: tuple[str, ...]
    allowed: tuple[Sizes, ...]
    tried: int

    @property
    def share(self) -> float:
        """Share of the legal sizes, 0..1, that the program holds for."""
        return len(self.allowed) / self.tried


class NarrowSizes(Refused):
    """The exported program holds for fewer sizes than the recipe allows."""


def check_sizes(program: torch.export.ExportedProgram, facts: ModelFacts) -> None:
    """Raise NarrowSizes if a program does not hold at all sizes of `facts.dims`."""
    if restrictions := find_restrictions(program, facts):
        refusal = NarrowSizes(_message(restrictions, facts.dims))
        refusal.share = math.prod(restriction.share for restriction in restrictions)
        raise refusal


def find_restrictions(
    program: torch.export.ExportedProgram, facts: ModelFacts
) -> list[Restriction]:
    """Return the guards of a program that do not hold at all sizes of `facts.dims`, by dimensions."""
    broken: dict[tuple[str, ...], list[Guard]] = {}
    for guard in find_guards(program, facts):
        if dims := _deciding(guard, facts.dims):
            broken.setdefault(dims, []).append(guard)
    return [_restriction(dims, guards, facts.dims) for dims, guards in broken.items()]


def _deciding(guard: Guard, dims: Dims) -> tuple[str, ...]:
    """Return the dimensions that decide a guard: one if that is enough; none if it always holds."""
    answers = [(sizes, guard.holds(sizes)) for sizes in legal_sizes(dims, guard.dims)]
    if all(answer for _, answer in answers):
        return ()
    for name in guard.dims:
        by_size: dict[int, set[bool]] = {}
        for sizes, answer in answers:
            by_size.setdefault(sizes[name], set()).add(answer)
        if all(len(both) == 1 for both in by_size.values()):
            return (name,)
    return tuple(sorted(guard.dims))


def _restriction(names: tuple[str, ...], guards: list[Guard], dims: Dims) -> Restriction:
    """Return what guards leave of the sizes of some dimensions, with the lines that matter."""
    involved = tuple(dict.fromkeys(name for guard in guards for name in guard.dims))
    legal = legal_sizes(dims, involved)
    left = {_sizes_of(names, sizes) for sizes in legal}
    tried = len(left)
    conditions, sources = [], []
    for guard in guards:
        refused = {_sizes_of(names, sizes) for sizes in legal if not guard.holds(sizes)}
        if left & refused:
            left -= refused
            conditions.append(guard.condition)
            sources += [guard.source] if guard.source else []
    allowed = [dict(zip(names, key, strict=True)) for key in sorted(left)]
    unique = dict.fromkeys(sources)
    return Restriction(names, tuple(conditions), tuple(unique), tuple(allowed), tried)


def _sizes_of(names: tuple[str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(sizes[name] for name in names)


def _message(restrictions: list[Restriction], dims: Dims) -> str:
    lines = ["the exported program is right for fewer sizes than `dims:` allows:"]
    for restriction in restrictions:
        at = f" ({'; '.join(restriction.sources[:_SHOWN])})" if restriction.sources else ""
        lines.append(f"  {_sizes_in_words(restriction, dims)}{at}")
    fixes = [fix for restriction in restrictions for fix in _fixes(restriction, dims)]
    state = f"state it in `dims:` ({', '.join(fixes)}), or rewrite" if fixes else "rewrite"
    lines.append(
        f"{state} the code: tracing keeps what Python's if, int(), min(), range() and loops made of "
        "one size; torch.cond, torch.sym_min, // and reshape(-1) work at each"
    )
    return "\n".join(lines)


def _sizes_in_words(restriction: Restriction, dims: Dims) -> str:
    if len(restriction.dims) > 1:
        counts = f"{len(restriction.allowed)} of {restriction.tried} combinations"
        return f"only sizes with {' and '.join(restriction.conditions[:_SHOWN])}, {counts}"
    [name] = restriction.dims
    sizes = [allowed[name] for allowed in restriction.allowed]
    dim = dims[name]
    legal = f"of {dim.min} to {dim.max}"
    if len(sizes) < 2:
        return f"{name}: only {sizes[0]}, {legal}" if sizes else f"{name}: none {legal}"
    if unit := _unit(sizes):
        multiples = f" in multiples of {unit}" if unit != dim.multiple_of else ""
        return f"{name}: only {sizes[0]} to {sizes[-1]}{multiples}, {legal}"
    some = ", ".join(map(str, sizes[:_SHOWN]))
    return f"{name}: only {len(sizes)} of {restriction.tried} sizes ({some}, ...), {legal}"


def _unit(sizes: list[int]) -> int | None:
    """Return the unit of sizes that are consecutive multiples of it, or None."""
    unit = sizes[1] - sizes[0]
    return (
        unit
        if sizes == list(range(sizes[0], sizes[-1] + 1, unit)) and not sizes[0] % unit
        else None
    )


def _fixes(restriction: Restriction, dims: Dims) -> Iterator[str]:
    """Yield what a recipe can say instead, if anything."""
    if len(restriction.dims) > 1:
        yield from filter(None, map(_relation, restriction.conditions))
        return
    [name] = restriction.dims
    sizes = [allowed[name] for allowed in restriction.allowed]
    if restriction.share < _WORTH or len(sizes) < 2 or not (unit := _unit(sizes)):
        return
    values = {}
    if sizes[0] - unit >= dims[name].min:
        values["min"] = sizes[0]
    if sizes[-1] + unit <= dims[name].max:
        values["max"] = sizes[-1]
    if unit != dims[name].multiple_of:
        values["multiple_of"] = unit
    yield f"`{name}: {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}`"


def _relation(condition: str) -> str | None:
    """Return an equation as a recipe's relation, if one side is a dimension."""
    equation = _EQUATION.fullmatch(condition)
    if equation is None:
        return None
    left, right = equation.groups()
    if left.isidentifier():
        return f"`{left}: {right}`"
    return f"`{right}: {left}`" if right.isidentifier() else None
