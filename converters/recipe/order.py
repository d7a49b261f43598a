"""The order of passes: which may follow which, and the steps that they are done in."""

from __future__ import annotations

from collections.abc import Sequence

from converters.recipe.passes import PassOptions
from converters.recipe.prune import PruneOptions
from converters.recipe.quantize import QuantizeOptions
from converters.recipe.recover import RecoverOptions

MODEL_PASSES = ("prune", "recover")
"""Passes that change the eager module; the others change the graph that is exported from it."""

FOLLOWS: dict[str, tuple[str, ...]] = {
    "": ("prune", "recover", "quantize"),
    "prune": ("prune", "recover", "quantize"),
    "recover": ("prune", "recover", "quantize"),
    "quantize": (),
}
"""Passes that may follow a pass; any may come first."""

LEGAL_ORDER = (
    "prune -> recover -> quantize; prune and recover may be repeated, quantize must be the last"
)


def order_problem(passes: Sequence[PassOptions]) -> str | None:
    """Return why the passes cannot be done in this order, or None."""
    before: PassOptions | None = None
    has_pattern = False
    for options in passes:
        name = before.name if before else ""
        if options.name not in FOLLOWS[name]:
            return f"{options.name} cannot follow {name}: the legal order is {LEGAL_ORDER}"
        if options.recover and (problem := _iterative_problem(options.recover, before)):
            return problem
        if options.prune and options.prune.structured is not None and has_pattern:
            return (
                "prune: `structured` cannot follow `pattern`, because removing channels breaks the "
                "2:4 pattern: put `structured` first"
            )
        has_pattern = has_pattern or bool(options.prune and options.prune.pattern)
        before = options
    return _aware_problem(passes, before.quantize if before else None)


def _iterative_problem(recover: RecoverOptions, before: PassOptions | None) -> str | None:
    """Return why pruning and recovery cannot alternate, or None."""
    if recover.iterative == 1:
        return None
    if not (before and before.prune and not before.prune.pattern):
        return "recover: `iterative` needs a prune (structured or unstructured) right before it"
    if recover.distill != "batchnorm" and recover.epochs < recover.iterative:
        return (
            f"recover: {recover.epochs} epochs are too few for `iterative: {recover.iterative}`: "
            "each round needs at least one epoch"
        )
    return None


def _aware_problem(passes: Sequence[PassOptions], quantize: QuantizeOptions | None) -> str | None:
    """Return why quantization-aware training is useless here, or None."""
    if not any(options.recover and options.recover.aware for options in passes):
        return None
    if quantize is None:
        return (
            "recover: `aware` is quantization-aware training, but nothing is quantized: add "
            "`- quantize: int8` after it"
        )
    if quantize.to != "int8":
        return (
            f"recover: `aware` trains for int8, not for {quantize.to}: remove it, or quantize to "
            "int8"
        )
    return None


def model_passes(passes: Sequence[PassOptions]) -> list[PassOptions]:
    """Return the passes that change the module; iterative ones are expanded into rounds."""
    expanded: list[PassOptions] = []
    for options in passes:
        if options.recover and options.recover.iterative > 1 and expanded and expanded[-1].prune:
            expanded += _rounds(expanded.pop().prune, options.recover)
        elif options.name in MODEL_PASSES:
            expanded.append(options)
    return expanded


def _rounds(prune: PruneOptions | None, recover: RecoverOptions) -> list[PassOptions]:
    """Return rounds of prune and recover.

    Each round removes the same share of the remaining model, and has its part of the epochs and
    minutes.
    """
    assert prune is not None  # the order has been checked
    count = recover.iterative
    round_recover = recover.model_copy(
        update={
            "iterative": 1,
            "epochs": max(1, recover.epochs // count),
            "minutes": recover.minutes / count,
        }
    )
    passes = []
    for number in range(1, count + 1):
        if prune.structured is not None:
            share = {"structured": 1 - (1 - prune.structured) ** (1 / count)}
        else:  # zeros stay, so the share grows
            share = {"unstructured": 1 - (1 - (prune.unstructured or 0)) ** (number / count)}
        round_prune = prune.model_copy(update=share)
        passes += [PassOptions(prune=round_prune), PassOptions(recover=round_recover)]
    return passes
