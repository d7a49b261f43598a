"""The optimizer of a training, and the course of its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

_WARM_UP = 0.05  # share of the training in which the learning rate rises
_DECAY = 1e-4  # of weights, not of biases and norms


def make_optimizer(student: nn.Module, rate: float) -> torch.optim.AdamW:
    """Return AdamW over all parameters; only matrices and kernels decay."""
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in student.parameters():
        (matrices if parameter.dim() > 1 else vectors).append(parameter)
    groups = [
        {"params": matrices, "weight_decay": _DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def share_of_rate(done: float) -> float:
    """Return the share of the highest learning rate: warm-up, then half a cosine to zero.

    `done`: share of the training that is over, in 0..1.
    """
    if done < _WARM_UP:
        return max(0.01, done / _WARM_UP)
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
