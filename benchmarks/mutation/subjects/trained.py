"""Seeded weights that behave like trained ones: no constant outputs, no unused branch."""

from __future__ import annotations

import torch
from torch import nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_PASSES = 8


def settle(model: nn.Module, *shapes: tuple[int, ...], seed: int = 0) -> nn.Module:
    """Return the model in evaluation mode, with weights, biases and statistics as after training.

    Args:
        model: to be changed in place.
        shapes: of the inputs with which BatchNorm's statistics are estimated, if it has any.
        seed: of all draws.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            _draw(module, generator)
        norms = [module for module in model.modules() if isinstance(module, _BATCH_NORMS)]
        if norms:
            _estimate(model, norms, shapes, generator)
    return model.eval()


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
        fan_in = module.weight[0].numel()
        if isinstance(module, nn.ConvTranspose2d):
            fan_in = module.weight.shape[0]
        module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if module.bias is not None:
            module.bias.normal_(0, 0.3, generator=generator)
    elif isinstance(module, (nn.LSTM, nn.GRU)):
        for parameter in module.parameters():
            parameter.normal_(0, 1.2 / module.hidden_size**0.5, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0, 1, generator=generator)
    elif isinstance(module, _NORMS):
        module.weight.uniform_(0.6, 1.5, generator=generator)
        module.bias.normal_(0, 0.3, generator=generator)


def _estimate(
    model: nn.Module,
    norms: list[nn.BatchNorm1d | nn.BatchNorm2d],
    shapes: tuple[tuple[int, ...], ...],
    generator: torch.Generator,
) -> None:
    """Estimate BatchNorm's statistics from noise, as training would from data."""
    for norm in norms:
        norm.momentum = None  # the mean of all passes
    model.train()
    for _ in range(_PASSES):
        model(*(torch.randn(shape, generator=generator) for shape in shapes))
