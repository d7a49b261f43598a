"""What tools like to mix up, apart: zeros, parameters, multiply-adds, bytes, bytes when compressed."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import torch
from torch import nn

from converters.models.operations import Run, count

_FASTEST = 1  # zlib's level: what is told is how much zeros help, not the best that a packer can do


@dataclass(frozen=True)
class Figures:
    """Of one module.

    Attributes:
        parameters: how many.
        zeros: share of them that are zero.
        macs: multiply-adds of one run at the sizes to be fastest at.
        bytes: of parameters and buffers.
        compressed_bytes: of the same, deflated.
    """

    parameters: int
    zeros: float
    macs: int
    bytes: int
    compressed_bytes: int

    def as_dict(self) -> dict[str, float]:
        """For a manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def figures(module: nn.Module, run: Run) -> Figures:
    """Count them."""
    parameters = sum(one.numel() for one in module.parameters())
    zeros = sum(one.numel() - int(torch.count_nonzero(one)) for one in module.parameters())
    tensors = [*module.parameters(), *module.buffers()]
    return Figures(
        parameters,
        zeros / max(1, parameters),
        count(module, run).total,
        sum(one.nbytes for one in tensors),
        sum(len(zlib.compress(one.detach().contiguous().numpy().tobytes(), _FASTEST)) for one in tensors),
    )
