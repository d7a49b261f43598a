"""More samples than there are: flipped, blended. The teacher sees the same ones, so no label has to be right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


def augmented(tensors: Tensors, kinds: Sequence[str], rng: np.random.Generator) -> Tensors:
    """The batch changed as `kinds` say (flip, mix); all inputs of a sample in the same way."""
    if "flip" in kinds:
        tensors = _flipped(tensors, rng)
    return _blended(tensors, rng) if "mix" in kinds else tensors


def _flipped(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Half of the pictures [batch, channels, height, width] from left to right."""
    count = len(next(iter(tensors.values())))
    which = torch.from_numpy(rng.random(count) < 0.5)
    return {
        name: torch.where(which.to(one.device).view(-1, 1, 1, 1), one.flip(-1), one) if one.dim() == 4 else one
        for name, one in tensors.items()
    }


def _blended(tensors: Tensors, rng: np.random.Generator) -> Tensors:
    """Each sample mixed with another one (Zhang et al., mixup, ICLR 2018)."""
    share = float(rng.beta(1.0, 1.0))
    order = torch.from_numpy(rng.permutation(len(next(iter(tensors.values())))))
    return {
        name: share * one + (1 - share) * one[order.to(one.device)] if one.is_floating_point() else one
        for name, one in tensors.items()
    }
