"""Structured pruning: whole channels, heads and neurons go, and the module is smaller for good."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from converters.models.operations import Run, count
from converters.models.parts import where
from converters.passes.prune.cost.cost import Costs, macs, params
from converters.passes.prune.groups import Choice, find_choices, removed
from converters.passes.prune.heads import replace_same
from converters.passes.prune.importance import gradients, scorer
from converters.passes.prune.plan import plan
from converters.passes.prune.shrink import shrink
from converters.recipe.prune import PruneOptions
from runtimes.engines.torch.session import flatten
from runtimes.errors import UsageError

_NEAR = 0.01  # what is left may differ by so much from what was asked, as a share of the whole
_TRIES = 4


@dataclass(frozen=True)
class PruningInputs:
    """What pruning runs the module on.

    Attributes:
        example: one run, with at least two samples where the batch is dynamic.
        best: a run at the sizes to be fastest at.
        learned: runs on the recipe's data, for importance by gradients.
        classification: the outputs are logits.
    """

    example: Run
    best: Run
    learned: Sequence[Run] = ()
    classification: bool = False


@dataclass(frozen=True)
class Removed:
    """What went.

    Attributes:
        layers: units before and after.
        left: share of the cost; for a latency what the plan foretold.
        relied: layers that stay whole as the forward pass relies on their widths.
    """

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    left: float = 1.0
    relied: tuple[str, ...] = ()


class _WidthError(UsageError):
    """A smaller model that does not run, or whose outputs are others."""


def prune_structured(
    module: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    latency: Callable[[nn.Module], Costs] | None = None,
    whole: Mapping[str, int] | None = None,
) -> tuple[nn.Module, Removed]:
    """A smaller copy of the module.

    Args:
        module: in eval mode; attentions in it are replaced by ones whose heads can go, where it answers the same.
        options: with `structured`.
        samples: what it is run on.
        latency: measures the layers, for `of: latency`.
        whole: units of the layers before any pass, which limits count from; by default those of the module.

    Raises:
        UsageError: it cannot be traced, so much cannot be removed, or names match nothing.
    """
    replace_same(module, samples.example)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the tracer follows gradients
    if options.importance == "taylor":
        gradients(module, samples.learned, samples.classification)
    costs = _costs(module, options, samples, latency)
    by_gradient = options.importance == "taylor"
    choices = find_choices(module, options, samples.example, scorer(options.importance), by_gradient, whole)
    module.zero_grad()
    try:
        return _smaller(module, options, samples, costs, choices)
    except _WidthError:
        free = [one for one in choices if _is_free(module, samples, one)]
        if not free or len(free) == len(choices):
            raise
    smaller, found = _smaller(module, options, samples, costs, free)
    return smaller, replace(found, relied=tuple(one.name for one in choices if one not in free))


def _smaller(
    module: nn.Module, options: PruneOptions, samples: PruningInputs, costs: Costs, choices: Sequence[Choice]
) -> tuple[nn.Module, Removed]:
    """The smaller copy from which as much went as was asked, or little more."""
    asked = float(options.structured or 0)
    target, best = asked, None
    for _ in range(_TRIES):
        try:
            kept = plan(choices, costs, target)
        except UsageError:
            if best is None:
                raise
            break  # there is no more than what was found
        smaller = copy.deepcopy(module)
        shrink(smaller, removed(choices, kept))
        _same_outputs(module, smaller, samples)
        left = _left(smaller, options, samples, costs, choices, kept)
        missed = abs(1 - left - asked)
        rank = 1 - left < asked - _NEAR, missed  # too little is worse than any too much: the goal was not reached
        if best is None or rank < best[0]:
            best = rank, smaller, Removed(_units(choices, kept), left)
        if missed <= _NEAR:
            break
        target = min(0.999, max(0.001, target + asked - (1 - left)))
    assert best is not None  # there was a first try
    return best[1], best[2]


def _is_free(module: nn.Module, samples: PruningInputs, choice: Choice) -> bool:
    """Whether units of this choice alone can go: a forward pass that is functional may rely on its width."""
    smaller = copy.deepcopy(module)
    shrink(smaller, removed([choice], [choice.least]))
    try:
        _same_outputs(module, smaller, samples)
    except _WidthError:
        return False
    return True


def _costs(
    module: nn.Module, options: PruneOptions, samples: PruningInputs, latency: Callable[[nn.Module], Costs] | None
) -> Costs:
    if options.of == "params":
        return params(module)
    if options.of == "latency":
        assert latency is not None  # the step measures where the recipe asks so
        return latency(module)
    return macs(module, samples.best)


def _units(choices: Sequence[Choice], kept: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Units before and after, by the layer that makes them."""
    return {
        choice.name: (len(choice.scores) * choice.tiles, units * choice.tiles)
        for choice, units in zip(choices, kept, strict=True)
        if units < len(choice.scores)
    }


def _left(
    smaller: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    costs: Costs,
    choices: Sequence[Choice],
    kept: Sequence[int],
) -> float:
    """The share of the cost that is left: counted, or for a latency foretold by the table."""
    if options.of == "macs":
        return count(smaller, samples.best).total / costs.total
    if options.of == "params":
        return sum(one.numel() for one in smaller.parameters()) / costs.total
    return costs.left(choices, kept) / costs.total


def _same_outputs(module: nn.Module, smaller: nn.Module, samples: PruningInputs) -> None:
    """Raise _WidthError where the smaller module does not run, or its outputs have other shapes."""
    with torch.no_grad():
        before = _shapes(samples.example(module))
        try:
            after = _shapes(samples.example(smaller))
        except Exception as error:  # whatever the forward pass raises
            raise _WidthError(
                f"prune: the smaller model does not run: {error}{where(error, smaller)}; a forward pass relies on "
                "a width: name the layers around it in `exclude`"
            ) from error
    if before != after:
        raise _WidthError(f"prune: the outputs would be {after}, not {before}: exclude the layers that make them")


def _shapes(result: Any) -> list[list[int]]:
    return [list(one.shape) for one in flatten(result)]
