"""Structured pruning: whole channels, heads and neurons are removed permanently."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from converters.models.operations import Run, count
from converters.models.parts import failing_module
from converters.passes.prune.cost.cost import Costs, mac_costs, parameter_costs
from converters.passes.prune.groups import Choice, collect_removed, find_choices
from converters.passes.prune.heads import replace_same
from converters.passes.prune.importance import accumulate_gradients, scorer
from converters.passes.prune.selection import select_units
from converters.passes.prune.shrink import shrink
from converters.recipe.prune import PruneOptions
from runtimes.engines.torch.outputs import flatten
from runtimes.errors import UsageError

# The removed share may differ by so much from the requested one, as a share of the whole.
_NEAR = 0.01
_TRIES = 4


@dataclass(frozen=True)
class PruningInputs:
    """Inputs that pruning runs the module on.

    Attributes:
        example: one run, with at least two samples if the batch is dynamic.
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
    """The removed units.

    Attributes:
        layers: units before and after.
        left: share of the cost that is left; for a latency the prediction.
        relied: layers that stay whole since the forward pass relies on their widths.
    """

    layers: dict[str, tuple[int, int]] = field(default_factory=dict)
    left: float = 1.0
    relied: tuple[str, ...] = ()


class _WidthError(UsageError):
    """A smaller model that does not run, or whose outputs differ in shape."""


def prune_structured(
    module: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    latency: Callable[[nn.Module], Costs] | None = None,
    whole: Mapping[str, int] | None = None,
) -> tuple[nn.Module, Removed]:
    """Return a smaller copy of the module, and the units that were removed.

    Args:
        module: in eval mode; attentions in it are replaced by ones whose heads can go, if it then
            answers the same.
        options: with `structured`.
        samples: it is run on.
        latency: measures the layers, for `of: latency`.
        whole: units of the layers before any pass, which limits count from; by default those of the
            module.

    Raises:
        UsageError: it cannot be traced, so much cannot be removed, or names match nothing.
    """
    replace_same(module, samples.example)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the tracer follows gradients
    if options.importance == "taylor":
        accumulate_gradients(module, samples.learned, samples.classification)
    costs = _costs(module, options, samples, latency)
    by_gradient = options.importance == "taylor"
    choices = find_choices(
        module, options, samples.example, scorer(options.importance), by_gradient, whole
    )
    module.zero_grad()
    try:
        return _smaller(module, options, samples, costs, choices)
    except _WidthError:
        free = [choice for choice in choices if _is_free(module, samples, choice)]
        if not free or len(free) == len(choices):
            raise
    smaller, removed = _smaller(module, options, samples, costs, free)
    relied = tuple(choice.name for choice in choices if choice not in free)
    return smaller, replace(removed, relied=relied)


def _smaller(
    module: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    costs: Costs,
    choices: Sequence[Choice],
) -> tuple[nn.Module, Removed]:
    """Return the smaller copy from which the requested share is removed, or little more."""
    requested = float(options.structured or 0)
    target, best = requested, None
    for _ in range(_TRIES):
        try:
            kept = select_units(choices, costs, target)
        except UsageError:
            if best is None:
                raise
            break  # no more can be removed than in the best try
        smaller = copy.deepcopy(module)
        shrink(smaller, collect_removed(choices, kept))
        _check_outputs(module, smaller, samples)
        left = _left(smaller, options, samples, costs, choices, kept)
        missed = abs(1 - left - requested)
        # Too little is worse than any too much: the goal was not reached.
        rank = 1 - left < requested - _NEAR, missed
        if best is None or rank < best[0]:
            best = rank, smaller, Removed(_units(choices, kept), left)
        if missed <= _NEAR:
            break
        target = min(0.999, max(0.001, target + requested - (1 - left)))
    assert best is not None  # there was a first try
    return best[1], best[2]


def _is_free(module: nn.Module, samples: PruningInputs, choice: Choice) -> bool:
    """Return whether units of this choice can go: a forward pass may rely on its width."""
    smaller = copy.deepcopy(module)
    shrink(smaller, collect_removed([choice], [choice.least]))
    try:
        _check_outputs(module, smaller, samples)
    except _WidthError:
        return False
    return True


def _costs(
    module: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    latency: Callable[[nn.Module], Costs] | None,
) -> Costs:
    if options.of == "params":
        return parameter_costs(module)
    if options.of == "latency":
        assert latency is not None  # the step measures if the recipe says so
        return latency(module)
    return mac_costs(module, samples.best)


def _units(choices: Sequence[Choice], kept: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Return units before and after, by the layer that makes them."""
    units = {}
    for choice, left in zip(choices, kept, strict=True):
        before = len(choice.scores)
        if left < before:
            units[choice.name] = (before * choice.tiles, left * choice.tiles)
    return units


def _left(
    smaller: nn.Module,
    options: PruneOptions,
    samples: PruningInputs,
    costs: Costs,
    choices: Sequence[Choice],
    kept: Sequence[int],
) -> float:
    """Return the share of the cost that is left: counted, or predicted for a latency."""
    if options.of == "macs":
        return count(smaller, samples.best).total / costs.total
    if options.of == "params":
        return parameter_costs(smaller).total / costs.total
    return costs.left(choices, kept) / costs.total


def _check_outputs(module: nn.Module, smaller: nn.Module, samples: PruningInputs) -> None:
    """Raise _WidthError if the smaller module does not run, or its outputs have other shapes."""
    with torch.no_grad():
        before = _shapes(samples.example(module))
        try:
            after = _shapes(samples.example(smaller))
        except Exception as error:  # whatever the forward pass raises
            raise _WidthError(
                f"prune: the smaller model does not run: {error}{failing_module(error, smaller)}; "
                "a forward pass relies on a width: name the layers around it in `exclude`"
            ) from error
    if before != after:
        raise _WidthError(
            f"prune: the outputs would be {after}, not {before}: exclude the layers that compute "
            "them"
        )


def _shapes(result: Any) -> list[list[int]]:
    return [list(output.shape) for output in flatten(result)]
