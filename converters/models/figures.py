"""Sizes of a module that are often confused: parameters, zeros, multiply-adds, bytes."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import torch
from torch import nn

from converters.models.operations import Run, count

# zlib's level: the figure shows how much zeros help, not the best possible compression.
_FASTEST = 1


@dataclass(frozen=True)
class Figures:
    """Sizes of one module.

    Attributes:
        parameters: their number.
        zeros: share of them that are zero.
        macs: multiply-adds of one run at the `opt` sizes.
        bytes: of parameters and buffers.
        compressed_bytes: of the same, deflated.
    """

    parameters: int
    zeros: float
    macs: int
    bytes: int
    compressed_bytes: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures for a manifest."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def figures(module: nn.Module, run: Run) -> Figures:
    """Compute the figures of a module."""
    parameters = zeros = size = compressed_size = 0
    for parameter in module.parameters():
        parameters += parameter.numel()
        zeros += parameter.numel() - int(torch.count_nonzero(parameter))
    for tensor in [*module.parameters(), *module.buffers()]:
        data = tensor.detach().contiguous().numpy().tobytes()
        size += tensor.nbytes
        compressed_size += len(zlib.compress(data, _FASTEST))
    return Figures(
        parameters=parameters,
        zeros=zeros / max(1, parameters),
        macs=count(module, run).total,
        bytes=size,
        compressed_bytes=compressed_size,
    )
