"""What the layers of a module cost by how wide they are left: multiply-adds, parameters, microseconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from converters.passes.prune.attention import HeadAttention
from converters.passes.prune.groups import LAYERS, Choice

LayerCost = Callable[[float, float], float]
"""The cost of a layer of which these shares of its inputs and its outputs are left."""


@dataclass(frozen=True)
class Costs:
    """Of a module: `total`, and what of it each layer can save."""

    total: float
    layers: Mapping[str, LayerCost]

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


def macs(module: nn.Module, run: Callable[[nn.Module], Any]) -> Costs:
    """Multiply-adds of one run at the sizes to be fastest at."""
    layers = {name: _Product(count) for name, count in _per_layer(module, run).items()}
    return Costs(count_macs(module, run), layers)


def params(module: nn.Module) -> Costs:
    """Parameters."""
    layers = {name: _Product(_weights(one)) for name, one in module.named_modules() if is_layer(one)}
    return Costs(sum(one.numel() for one in module.parameters()), layers)


def is_layer(module: nn.Module) -> bool:
    """Whether a module has a cost of its own: the output projection of attention is a part of that."""
    return isinstance(module, (*LAYERS, HeadAttention))


def _weights(layer: Any) -> int:
    inner = layer.in_proj_weight.numel() if isinstance(layer, HeadAttention) else layer.weight.numel()
    return int(inner)


def count_macs(module: nn.Module, run: Callable[[nn.Module], Any]) -> int:
    """Multiply-adds of every convolution, matrix product and attention in one run."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(module)
    return int(counter.get_total_flops()) // 2


def _per_layer(module: nn.Module, run: Callable[[nn.Module], Any]) -> dict[str, float]:
    """Multiply-adds of each convolution, linear layer and attention."""
    found: dict[str, float] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(layer: Any, given: Any, made: Any) -> None:
            found[name] = found.get(name, 0.0) + _macs(layer, given, made)

        return note

    hooks = [one.register_forward_hook(hook(name)) for name, one in module.named_modules() if is_layer(one)]
    try:
        with torch.no_grad():
            run(module)
    finally:
        for one in hooks:
            one.remove()
    return found


def _macs(layer: Any, given: Any, made: Any) -> float:
    if isinstance(layer, HeadAttention):
        batch, tokens, width = given[0].shape
        inner = layer.num_heads * layer.head_dim
        return float(batch * (3 * tokens * width * inner + 2 * tokens * tokens * inner))
    channels = made.shape[1] if isinstance(layer, nn.modules.conv._ConvNd) else made.shape[-1]
    return float(made.numel() // channels * layer.weight.numel())
