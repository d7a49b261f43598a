"""Models that round as lossy artifacts do, honestly: weights, and what each layer returns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from converters.models.call import call

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding, nn.GRU, nn.LSTM)


def reduced(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy whose weights and layers' outputs have the precision of float16 or bfloat16."""
    copied = copy.deepcopy(module)
    for layer in _layers(copied):
        for parameter in layer.parameters():
            parameter.data = parameter.data.to(dtype).float()
        layer.register_forward_hook(_rounding(lambda tensor: tensor.to(dtype).float()))
    return copied


def int8_like(module: nn.Module, samples: Sequence[dict[str, torch.Tensor]]) -> nn.Module:
    """Return a copy with weights of 8 bits by output channel and activations of 8 bits by tensor.

    The outputs themselves stay float, as quantizers leave them: only inputs of layers are rounded.
    """
    copied = copy.deepcopy(module)
    layers = [layer for layer in _layers(copied) if not isinstance(layer, nn.Embedding)]
    largest = {id(layer): 0.0 for layer in layers}

    def watch(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        largest[id(layer)] = max(largest[id(layer)], float(arguments[0].abs().max()))

    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
    with torch.inference_mode():
        for tensors in samples[:32]:
            call(copied, tensors)
    for handle in handles:
        handle.remove()
    for layer in layers:
        for parameter in layer.parameters():
            if parameter.ndim > 1:
                parameter.data = _eight_bits(parameter.data, _by_channel(parameter.data))
        layer.register_forward_pre_hook(_quantizing(largest[id(layer)]))
    return copied


def _layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, _LAYERS)]


def _by_channel(weight: torch.Tensor) -> torch.Tensor:
    return weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True)


def _eight_bits(values: torch.Tensor, largest: torch.Tensor | float) -> torch.Tensor:
    scale = torch.as_tensor(largest).clamp_min(1e-12) / 127
    return (values / scale).round().clamp(-127, 127) * scale


def _quantizing(largest: float) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda layer, arguments: (_eight_bits(arguments[0], largest), *arguments[1:])


def _rounding(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(layer: nn.Module, arguments: Any, result: Any) -> Any:
        if isinstance(result, torch.Tensor):
            return function(result)
        first, *rest = result  # of a recurrent layer
        return (function(first), *rest)

    return hook
