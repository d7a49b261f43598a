"""BatchNorm's running statistics, found anew from forward passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import nn


def norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The norms of a module that keep statistics."""
    found = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in found if norm.running_mean is not None]


def learn_statistics(module: nn.Module, forwards: Iterable[Callable[[], object]]) -> int:
    """Average the statistics of all forward passes; the module is left in eval mode. Returns how many norms."""
    module.eval()
    found = norms(module)
    if not found:
        return 0
    momenta = [norm.momentum for norm in found]
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    # A model whose inputs have one sample of one position has no variance to learn: it keeps mean 0, variance 1.
    with torch.no_grad(), contextlib.suppress(ValueError):
        for forward in forwards:
            forward()
    for norm, momentum in zip(found, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return len(found)
