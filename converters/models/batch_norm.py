"""Re-estimate BatchNorm running statistics from forward passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import nn


def norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the norms of a module that keep statistics."""
    norms = []
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            norms.append(part)
    return norms


def learn_statistics(module: nn.Module, forwards: Iterable[Callable[[], object]]) -> int:
    """Average the statistics of all forward passes; return the number of norms.

    The module is left in eval mode.
    """
    module.eval()
    tracking = norms(module)
    if not tracking:
        return 0
    momenta = [norm.momentum for norm in tracking]
    for norm in tracking:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    # A model whose inputs have one sample of one position has no variance to learn: it keeps mean 0
    # and variance 1.
    with torch.no_grad(), contextlib.suppress(ValueError):
        for forward in forwards:
            forward()
    for norm, momentum in zip(tracking, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return len(tracking)
