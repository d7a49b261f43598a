"""Random weights whose outputs depend on the input.

Freshly initialised models often compute nothing: torchvision's ViT heads are all zero, ConvNeXt
scales each block by 1e-6, and BatchNorm running statistics (mean 0, variance 1) let activations
vanish. Any artifact agrees with such a model. Here constant weights are redrawn and BatchNorm
statistics are estimated on noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PASSES = 2  # forward passes that the running statistics average


def randomize(module: torch.nn.Module, seed: int, forward: Callable[[], object]) -> None:
    """Make the freshly built `module` non-degenerate, reproducibly.

    Args:
        module: changed in place; left in eval mode.
        seed: of all random numbers.
        forward: runs the module once on seeded noise of the recipe's inputs, with more than one
            sample.
    """
    import torch

    from converters.models.batch_norm import learn_statistics

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if _constant_weight(parameter):
                fan_in = max(1, parameter[0].numel())
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / math.sqrt(fan_in)
                )
    learn_statistics(module, [forward] * _PASSES)


def _constant_weight(parameter: torch.Tensor) -> bool:
    """Return whether all values of a matrix or larger are the same.

    Vectors (norms, biases) may well be.
    """
    if parameter.dim() < 2 or parameter.numel() < 2:
        return False
    return bool((parameter == parameter.flatten()[0]).all())
