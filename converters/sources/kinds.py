"""Kinds of tensors that a checkpoint may hold, and that are no plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PACKED = ("float4_e2m1fn_x2", "bits1x8", "bits2x4", "bits4x2", "bits8", "bits16")
"""Types with several values in a byte, and raw bits: PyTorch computes with none of them."""


def unusual_kind(tensor: torch.Tensor) -> str | None:
    """Return what kind of tensor it is, in words; None for one of plain values."""
    import torch

    if tensor.is_meta:
        return "meta (a shape without values)"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized"
    if tensor.layout != torch.strided:
        return str(tensor.layout).removeprefix("torch.")
    packed = [getattr(torch, name, None) for name in _PACKED]
    packed += [
        getattr(torch, f"{sign}int{bits}", None) for sign in ("", "u") for bits in range(1, 8)
    ]
    return str(tensor.dtype).removeprefix("torch.") if tensor.dtype in packed else None
