"""Augmentation: flipped or blended samples.

The teacher sees the same ones, so no label has to be right.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


def augment(tensors: Tensors, kinds: Sequence[str], rng: np.random.Generator) -> Tensors:
    """Change a batch as `kinds` say (flip, mix); all inputs of a sample in the same way."""
    if "flip" in kinds:
        tensors = _flipped(tensors, rng)
    return _blended(tensors, rng) if "mix" in kinds else tensors


def _flipped(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Flip half of the pictures [batch, channels, height, width] from left to right."""
    count = len(next(iter(tensors.values())))
    chosen = torch.from_numpy(rng.random(count) < 0.5)
    flipped = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dim() == 4:
            mask = chosen.to(tensor.device).view(-1, 1, 1, 1)
            flipped[name] = torch.where(mask, tensor.flip(-1), tensor)
    return flipped


def _blended(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Mix each sample with another one (Zhang et al., mixup, ICLR 2018)."""
    share = float(rng.beta(1.0, 1.0))
    order = torch.from_numpy(rng.permutation(len(next(iter(tensors.values())))))
    blended = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            blended[name] = share * tensor + (1 - share) * tensor[order.to(tensor.device)]
    return blended
