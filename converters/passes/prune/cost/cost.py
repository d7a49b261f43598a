"""What the layers of a module cost by how wide they are left: multiply-adds, parameters, microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from converters.models.attention import HeadAttention
from converters.models.operations import Run, count
from converters.models.parts import LAYERS
from converters.passes.prune.groups import Choice

LayerCost = Callable[[float, float], float]
"""The cost of a layer of which these shares of its inputs and its outputs are left."""


@dataclass(frozen=True)
class Costs:
    """Of a module: `total`, and what of it each layer can save.

    `ahead`: among so many next steps the best is looked for; more than one where cost does not fall evenly.
    """

    total: float
    layers: Mapping[str, LayerCost]
    ahead: int = 1

    def left(self, choices: Sequence[Choice], kept: Sequence[int]) -> float:
        """The total where each choice keeps so many units."""
        widths = Widths(choices, kept)
        return self.total - sum(cost(1, 1) - cost(*widths.of(name)) for name, cost in self.layers.items())


class Widths:
    """The shares of each layer's inputs and outputs that are left."""

    def __init__(self, choices: Sequence[Choice], kept: Sequence[int]) -> None:
        self._gone: dict[tuple[str, str], float] = {}
        for choice, units in zip(choices, kept, strict=True):
            self.move(choice, 1 - units / len(choice.scores))

    def move(self, choice: Choice, share: float) -> None:
        """Take this share of a choice's units away; a negative one gives them back."""
        for use in choice.uses:
            key = use.layer, use.side
            self._gone[key] = self._gone.get(key, 0.0) + share * use.share

    def of(self, layer: str) -> tuple[float, float]:
        """Shares of inputs and outputs."""
        return 1 - self._gone.get((layer, "in"), 0.0), 1 - self._gone.get((layer, "out"), 0.0)


@dataclass(frozen=True)
class _Product:
    """A cost in proportion to both widths; that of a depthwise layer to one."""

    whole: float

    def __call__(self, ins: float, outs: float) -> float:
        return self.whole * ins * outs


def macs(module: nn.Module, run: Run) -> Costs:
    """Multiply-adds of one run at the sizes to be fastest at."""
    found = count(module, run)
    layers = {name: one for name, one in module.named_modules() if is_layer(one) and name in found.modules}
    return Costs(found.total, {name: _Product(found.modules[name]) for name in layers})


def params(module: nn.Module) -> Costs:
    """Parameters."""
    layers = {name: _Product(_weights(one)) for name, one in module.named_modules() if is_layer(one)}
    return Costs(sum(one.numel() for one in module.parameters()), layers)


def is_layer(module: nn.Module) -> bool:
    """Whether a module has a cost of its own."""
    return isinstance(module, (*LAYERS, HeadAttention))


def _weights(layer: Any) -> int:
    inner = layer.in_proj_weight.numel() if isinstance(layer, HeadAttention) else layer.weight.numel()
    return int(inner)
