"""A mode of PyTorch in which each operation returns numbers that half precision holds."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_IMPLICIT = torch._C.DispatchKey.CompositeImplicitAutograd
# Operations whose results are among their operands, which have been rounded, or zero.
_MOVES = frozenset(
    (
        *("relu", "relu_", "cat", "stack", "clone", "embedding", "gather", "index", "index_select"),
        *("max_pool2d_with_indices", "upsample_nearest2d", "repeat", "flip", "roll", "split"),
    )
)
_Kind = Literal["composite", "writes", "moves", "computes"]


class RoundedResults(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Rounds float32 numbers that an operation returns or writes to float16 or bfloat16.

    Operations that are made of others (a linear layer, attention) are taken apart first. Views are
    of numbers that have been rounded; integers, float64 and complex numbers stay.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _kind(func)
        if kind == "composite":
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        result = func(*args, **(kwargs or {}))
        if kind == "moves":
            return result
        rounding = self._round_in_place if kind == "writes" else self._round
        return tree_map_only(torch.Tensor, rounding, result)

    def _round(self, tensor: torch.Tensor) -> torch.Tensor:
        return rounded(tensor, self._dtype)

    def _round_in_place(self, tensor: torch.Tensor) -> torch.Tensor:
        values = rounded(tensor, self._dtype)
        return tensor if values is tensor else tensor.copy_(values)


@cache
def _kind(func: Any) -> _Kind:
    """Return what an operation does: a view moves numbers, too."""
    if func.has_kernel_for_dispatch_key(_IMPLICIT):
        return "composite"
    if func.overloadpacket.__name__ in _MOVES:
        return "moves"
    aliases = [returned.alias_info for returned in func._schema.returns if returned.alias_info]
    if not aliases:
        return "computes"
    return "writes" if any(alias.is_write for alias in aliases) else "moves"


def rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return float32 numbers as a half precision holds them; other tensors as they are.

    Numbers that overflow stay, and tensors of which nothing would be left: casts keep the
    operations that need them in float32 (an epsilon of 1e-12 is not 0).
    """
    if tensor.dtype is not torch.float32 or not tensor.numel():
        return tensor
    values = tensor.to(dtype).float()
    if dtype is torch.bfloat16:  # has the range of float32
        return values
    largest = float(torch.linalg.vector_norm(values, math.inf))
    if not largest:
        return tensor
    return values if math.isfinite(largest) else torch.where(values.isfinite(), values, tensor)
