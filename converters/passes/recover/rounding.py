"""Quantization-aware training: the student adapts to the int8 rounding of `quantize`.

Weights are rounded per output channel, activations per tensor, and gradients pass through unchanged
(Jacob et al., Quantization and Training of Neural Networks, CVPR 2018). A BatchNorm after a layer
scales each channel by a constant, so rounding its weights before the fold is rounding them after
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from converters.models.parts import LAYERS

_WEIGHT_MAX = 127  # symmetric int8
_CODES = 255  # uint8
_MEMORY = 0.98  # of the running range of activations


class _RoundedWeight(nn.Module):
    """Fake quantization per output channel."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        scale = weight.detach().abs().flatten(1).amax(1).clamp_min(1e-12) / _WEIGHT_MAX
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zero, 0, -_WEIGHT_MAX - 1, _WEIGHT_MAX
        )


class _RoundedInput:
    """Fake quantization of a layer's input, in the range that was observed."""

    def __init__(self) -> None:
        self.low = self.high = torch.zeros(())

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not inputs:  # called by keyword
            return inputs
        value = inputs[0]
        if torch.is_grad_enabled():
            self._widen(value.detach())
        if not self.high > self.low:
            return inputs
        scale = ((self.high - self.low) / _CODES).clamp_min(1e-12).float()
        zero = (-self.low / scale).round().clamp(0, _CODES).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, _CODES), *inputs[1:]

    def _widen(self, value: torch.Tensor) -> None:
        low, high = value.amin().clamp_max(0.0), value.amax().clamp_min(0.0)
        new = not self.high > self.low
        self.low = low if new else torch.lerp(low, self.low, _MEMORY)
        self.high = high if new else torch.lerp(high, self.high, _MEMORY)


@contextlib.contextmanager
def rounding(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Round weights and inputs of convolutions and linear layers inside; restore both after it."""
    layers = [part for part in module.modules() if isinstance(part, LAYERS)] if wanted else []
    hooks = [layer.register_forward_pre_hook(_RoundedInput()) for layer in layers]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _RoundedWeight())
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
