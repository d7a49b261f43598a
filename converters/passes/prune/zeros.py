"""Pruning to zero: two of four neighbouring weights (2:4), or the smallest of all. Shapes stay."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from converters.models.attention import HeadAttention
from converters.models.parts import LAYERS
from converters.passes.prune.depgraph import is_computed
from converters.passes.prune.groups import check_names, matches_any
from converters.recipe.prune import PruneOptions
from runtimes.errors import UsageError

_OF, _KEEP = 4, 2  # 2:4, the one pattern that sparse tensor cores have


def prune_zeros(module: nn.Module, options: PruneOptions) -> dict[str, float]:
    """Set weights of layers to zero, in place. Returns the share of zeros in each changed layer.

    Raises UsageError if a name matches no layer, no layer is left, or none can take the pattern.
    """
    layers = dict(_layers(module, options))
    if not layers:
        raise UsageError("prune: no layer is left whose weights can become zero: exclude less")
    if not options.pattern:
        return _smallest(layers, float(options.unstructured or 0))
    shares = _pattern(layers)
    if not shares:
        raise UsageError(
            "prune: no layer's inputs are a multiple of four, so none can take the pattern 2:4"
        )
    return shares


def _layers(module: nn.Module, options: PruneOptions) -> Iterator[tuple[str, torch.Tensor]]:
    named = dict(_weights(module))
    if options.pattern:  # no kernel takes it in a recurrent layer
        named = {name: pair for name, pair in named.items() if not isinstance(pair[0], nn.RNNBase)}
    check_names("prune.exclude", options.exclude, list(named), module)
    excluded, seen = set(), set()
    for name, (_, weight) in named.items():
        if matches_any(options.exclude, name):
            excluded.add(name)
            seen.add(id(weight))
    for name, (layer, weight) in named.items():
        if name in excluded:
            continue
        if is_computed(layer):
            raise UsageError(
                f"prune: {name} computes its weight from other parameters (weight_norm and the "
                "like), where zeros would not stay: have the factory remove that, or exclude the "
                "layer"
            )
        if id(weight) not in seen:  # a weight that two layers share is counted once
            seen.add(id(weight))
            yield name, weight


def _weights(module: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, torch.Tensor]]]:
    """Yield weights of convolutions, linear, attention and recurrent layers.

    A weight has the name of its layer if the layer has only one.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, LAYERS):
            yield name, (layer, layer.weight)
        elif isinstance(layer, (nn.MultiheadAttention, HeadAttention)):
            if layer.in_proj_weight is not None:
                yield f"{name}.in_proj_weight".lstrip("."), (layer, layer.in_proj_weight)
        elif isinstance(layer, nn.RNNBase):
            for leaf, weight in layer.named_parameters():
                if weight.dim() > 1:
                    yield f"{name}.{leaf}".lstrip("."), (layer, weight)


def _pattern(layers: dict[str, torch.Tensor]) -> dict[str, float]:
    """Apply 2:4 along the input channels, as TensorRT wants it; other layers are left out."""
    shares = {}
    for name, weight in layers.items():
        if weight.shape[1] % _OF:
            continue  # a depthwise convolution, or the first layer
        with torch.no_grad():
            last = weight.movedim(1, -1)
            fours = last.reshape(-1, _OF)
            gone = fours.abs().argsort(1)[:, : _OF - _KEEP]
            mask = torch.ones_like(fours).scatter_(1, gone, 0.0)
            weight.mul_(mask.reshape(last.shape).movedim(-1, 1))
        shares[name] = zero_share(weight)
    return shares


def _smallest(layers: dict[str, torch.Tensor], share: float) -> dict[str, float]:
    """Zero the smallest of all weights, whatever their layer.

    Method: Han et al., Learning both Weights and Connections.
    """
    sizes = torch.cat([weight.detach().abs().flatten() for weight in layers.values()])
    count = max(1, round(share * len(sizes)))
    threshold = sizes.kthvalue(count).values
    gone = sizes < threshold
    equal = (sizes == threshold).nonzero().flatten()  # only as many of them as are missing
    gone[equal[: count - int(gone.sum())]] = True
    masks = torch.split(gone, [weight.numel() for weight in layers.values()])
    with torch.no_grad():
        for weight, mask in zip(layers.values(), masks, strict=True):
            weight.masked_fill_(mask.view_as(weight), 0.0)
    return {name: zero_share(weight) for name, weight in layers.items()}


def zero_share(weight: torch.Tensor) -> float:
    """Return the share of values that are zero."""
    return 1 - int(torch.count_nonzero(weight)) / max(1, weight.numel())
