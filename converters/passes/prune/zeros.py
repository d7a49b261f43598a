"""Pruning by zeros: the two smallest of four neighbouring weights, or the smallest of all. Shapes stay."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from converters.passes.prune.groups import LAYERS, check_names, means
from converters.passes.prune.options import PruneOptions
from runtimes.errors import UsageError

_OF, _KEEP = 4, 2  # 2:4, the one pattern that sparse tensor cores have


def prune_zeros(module: nn.Module, options: PruneOptions) -> dict[str, float]:
    """Set weights of convolutions and linear layers to zero, in place; the share of zeros of each changed layer.

    Raises UsageError where a name matches no layer, or no layer can take the pattern.
    """
    layers = dict(_layers(module, options))
    found = _pattern(layers) if options.pattern else _smallest(layers, float(options.unstructured or 0))
    if not found:
        raise UsageError("prune: no layer's inputs are a multiple of four, so none can take the pattern 2:4")
    return found


def _layers(module: nn.Module, options: PruneOptions) -> Iterator[tuple[str, torch.Tensor]]:
    named = {name: one for name, one in module.named_modules() if isinstance(one, LAYERS)}
    check_names("prune.exclude", options.exclude, list(named))
    for name, one in named.items():
        if not any(means(pattern, name) for pattern in options.exclude):
            yield name, one.weight


def _pattern(layers: dict[str, torch.Tensor]) -> dict[str, float]:
    """2:4 along the input channels, where that is their only axis but for the kernel's: as TensorRT wants it."""
    found = {}
    for name, weight in layers.items():
        if weight.shape[1] % _OF:
            continue  # a depthwise convolution, or the first layer
        with torch.no_grad():
            last = weight.movedim(1, -1)
            fours = last.reshape(-1, _OF)
            gone = fours.abs().argsort(1)[:, : _OF - _KEEP]
            mask = torch.ones_like(fours).scatter_(1, gone, 0.0)
            weight.mul_(mask.reshape(last.shape).movedim(-1, 1))
        found[name] = zero_share(weight)
    return found


def _smallest(layers: dict[str, torch.Tensor], share: float) -> dict[str, float]:
    """The smallest of all weights, whatever their layer (Han et al., Learning both Weights and Connections)."""
    sizes = torch.cat([weight.detach().abs().flatten() for weight in layers.values()])
    threshold = sizes.kthvalue(max(1, round(share * len(sizes)))).values
    with torch.no_grad():
        for weight in layers.values():
            weight.masked_fill_(weight.abs() <= threshold, 0.0)
    return {name: zero_share(weight) for name, weight in layers.items()}


def zero_share(weight: torch.Tensor) -> float:
    """The share of values that are zero."""
    return 1 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
