"""Arrays as the tensors that a module takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch


def to_tensors(arrays: Arrays, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return the arrays as tensors on a device, by the same names.

    On the CPU they share the arrays' memory.
    """
    import torch

    return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
