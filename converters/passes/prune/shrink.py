"""Remove units from layers: their weights, and the recorded sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from converters.models.attention import HeadAttention

Gone = Mapping[str, Mapping[str, Collection[int]]]
"""By module path and side (`in`, `out`, `heads`): the indices of the units that go."""


def shrink(module: nn.Module, gone: Gone) -> None:
    """Make the layers of a module smaller, in place."""
    for name, sides in gone.items():
        layer = module.get_submodule(name)
        if isinstance(layer, HeadAttention):
            heads = set(sides.get("heads", ()))
            layer.keep([head for head in range(layer.num_heads) if head not in heads])
        else:
            _layer(layer, sides.get("in", ()), sides.get("out", ()))


def _layer(layer: Any, ins: Collection[int], outs: Collection[int]) -> None:
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        kept = _kept(layer.num_features, outs)
        layer.num_features = len(kept)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _cut(layer, name, 0, kept)
    elif isinstance(layer, nn.PReLU):
        kept = _kept(layer.num_parameters, outs)
        layer.num_parameters = len(kept)
        _cut(layer, "weight", 0, kept)
    elif isinstance(layer, nn.Linear):
        kept, read = _kept(layer.out_features, outs), _kept(layer.in_features, ins)
        layer.out_features, layer.in_features = len(kept), len(read)
        _cut(layer, "weight", 0, kept)
        _cut(layer, "weight", 1, read)
        _cut(layer, "bias", 0, kept)
    else:
        _convolution(layer, ins, outs)


def _convolution(layer: Any, ins: Collection[int], outs: Collection[int]) -> None:
    if layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels:  # depthwise
        kept = _kept(layer.groups, outs)
        layer.groups = layer.in_channels = layer.out_channels = len(kept)
        _cut(layer, "weight", 0, kept)
        _cut(layer, "bias", 0, kept)
        return
    per_group = layer.in_channels // layer.groups
    local = {index % per_group for index in ins}
    assert len(local) * layer.groups == len(ins)  # each group loses the same inputs
    kept, read = _kept(layer.out_channels, outs), _kept(per_group, local)
    layer.out_channels, layer.in_channels = len(kept), len(read) * layer.groups
    first, second = (1, 0) if layer.transposed else (0, 1)
    _cut(layer, "weight", first, kept)
    _cut(layer, "weight", second, read)
    _cut(layer, "bias", 0, kept)


def _kept(count: int, gone: Collection[int]) -> torch.Tensor:
    removed = set(gone)
    return torch.tensor([index for index in range(count) if index not in removed])


def _cut(layer: nn.Module, name: str, axis: int, kept: torch.Tensor) -> None:
    """Keep these indices of a parameter or buffer along an axis."""
    old: Any = getattr(layer, name)
    if old is None or old.shape[axis] == len(kept):
        return
    new = old.detach().index_select(axis, kept)
    if isinstance(old, nn.Parameter):
        setattr(layer, name, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        layer.register_buffer(name, new)
