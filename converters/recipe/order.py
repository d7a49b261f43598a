"""In which order passes may stand, and what steps they are done in."""

from __future__ import annotations

from collections.abc import Sequence

from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.recover import RecoverOptions

ON_THE_MODEL = ("prune", "recover")
"""Passes that change the eager module; the others change the graph that is exported from it."""

FOLLOWS: dict[str, tuple[str, ...]] = {
    "": ("prune", "recover", "quantize"),
    "prune": ("prune", "recover", "quantize"),
    "recover": ("prune", "recover", "quantize"),
    "quantize": (),
}
"""Which passes may stand behind which; behind nothing, all."""

LEGAL_ORDER = "prune -> recover -> quantize; prune and recover may come several times, quantize ends it"


def order_problem(passes: Sequence[PassOptions]) -> str | None:
    """Why the passes cannot be done in this order, or None."""
    before: PassOptions | None = None
    patterned = False
    for one in passes:
        name = before.name if before else ""
        if one.name not in FOLLOWS[name]:
            return f"{one.name} cannot follow {name}: the legal order is {LEGAL_ORDER}"
        if one.recover and one.recover.iterative > 1 and (problem := _turns_problem(one.recover, before)):
            return problem
        if one.prune and one.prune.structured is not None and patterned:
            return "prune: `structured` cannot follow `pattern`, whose fours it would tear: put `structured` first"
        patterned = patterned or bool(one.prune and one.prune.pattern)
        before = one
    return _aware_problem(passes, before.quantize if before else None)


def _turns_problem(recover: RecoverOptions, before: PassOptions | None) -> str | None:
    """Why pruning and recovering cannot take turns, or None."""
    if not (before and before.prune and not before.prune.pattern):
        return "recover: `iterative` alternates with a prune (structured or unstructured) right before it"
    if recover.distill != "batchnorm" and recover.epochs < recover.iterative:
        return f"recover: {recover.epochs} epochs are too few for {recover.iterative} turns: each has one at least"
    return None


def _aware_problem(passes: Sequence[PassOptions], quantize: QuantizeOptions | None) -> str | None:
    """Why training with int8 rounding prepares for nothing, or None."""
    if not any(one.recover and one.recover.aware for one in passes):
        return None
    if quantize is None:
        return "recover: `aware` prepares for a quantization: add `- quantize: int8` behind it"
    if quantize.to != "int8":
        return f"recover: `aware` rounds to int8, not to {quantize.to}: leave it out, or quantize to int8"
    return None


def on_the_model(passes: Sequence[PassOptions]) -> list[PassOptions]:
    """The passes that change the module, those that alternate written out."""
    found: list[PassOptions] = []
    for one in passes:
        if one.recover and one.recover.iterative > 1 and found and found[-1].prune:
            found += _alternated(found.pop().prune, one.recover)
        elif one.name in ON_THE_MODEL:
            found.append(one)
    return found


def _alternated(prune: PruneOptions | None, recover: RecoverOptions) -> list[PassOptions]:
    """Prune and recover in turns: the same share of what is left each time, with its part of epochs and minutes."""
    assert prune is not None  # the order was checked
    times = recover.iterative
    lesson = recover.model_copy(
        update={"iterative": 1, "epochs": max(1, recover.epochs // times), "minutes": recover.minutes / times}
    )
    found = []
    for turn in range(1, times + 1):
        if prune.structured is not None:
            part = {"structured": 1 - (1 - prune.structured) ** (1 / times)}
        else:  # zeros stay, so the share grows
            part = {"unstructured": 1 - (1 - (prune.unstructured or 0)) ** (turn / times)}
        found += [PassOptions(prune=prune.model_copy(update=part)), PassOptions(recover=lesson)]
    return found
