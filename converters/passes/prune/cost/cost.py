"""Cost of a module's layers by their remaining widths: multiply-adds, parameters, microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from converters.models.attention import HeadAttention
from converters.models.operations import Run, count
from converters.models.parts import LAYERS
from converters.passes.prune.groups import Choice

LayerCost = Callable[[float, float], float]
"""The cost of a layer that keeps these shares of its inputs and its outputs."""


@dataclass(frozen=True)
class Costs:
    """Costs of a module.

    Attributes:
        total: of the whole module.
        layers: of each layer that can become cheaper.
        ahead: the best of so many next steps is taken; more than one if the cost does not fall
            evenly.
    """

    total: float
    layers: Mapping[str, LayerCost]
    ahead: int = 1

    def left(self, choices: Sequence[Choice], kept: Sequence[int]) -> float:
        """Return the total if each choice keeps so many units."""
        widths = Widths(choices, kept)
        saved = [cost(1, 1) - cost(*widths.of(name)) for name, cost in self.layers.items()]
        return self.total - sum(saved)


class Widths:
    """The remaining shares of each layer's inputs and outputs."""

    def __init__(self, choices: Sequence[Choice], kept: Sequence[int]) -> None:
        self._gone: dict[tuple[str, str], float] = {}
        for choice, units in zip(choices, kept, strict=True):
            self.move(choice, 1 - units / len(choice.scores))

    def move(self, choice: Choice, share: float) -> None:
        """Remove this share of a choice's units; a negative one adds them again."""
        for use in choice.uses:
            key = use.layer, use.side
            self._gone[key] = self._gone.get(key, 0.0) + share * use.share

    def of(self, layer: str) -> tuple[float, float]:
        """Return the shares of inputs and outputs."""
        return 1 - self._gone.get((layer, "in"), 0.0), 1 - self._gone.get((layer, "out"), 0.0)


@dataclass(frozen=True)
class _Product:
    """A cost in proportion to both widths; for a depthwise layer to one."""

    whole: float

    def __call__(self, ins: float, outs: float) -> float:
        return self.whole * ins * outs


def mac_costs(module: nn.Module, run: Run) -> Costs:
    """Count the multiply-adds of one run at the sizes to be fastest at."""
    operations = count(module, run)
    layers = {}
    for name, part in module.named_modules():
        if is_layer(part) and name in operations.modules:
            layers[name] = _Product(operations.modules[name])
    return Costs(operations.total, layers)


def parameter_costs(module: nn.Module) -> Costs:
    """Count the parameters."""
    layers = {}
    for name, part in module.named_modules():
        if is_layer(part):
            layers[name] = _Product(_weights(part))
    return Costs(sum(map(torch.numel, module.parameters())), layers)


def is_layer(module: nn.Module) -> bool:
    """Return whether a module has a cost of its own."""
    return isinstance(module, (*LAYERS, HeadAttention))


def _weights(layer: Any) -> int:
    weight = layer.in_proj_weight if isinstance(layer, HeadAttention) else layer.weight
    return int(weight.numel())
