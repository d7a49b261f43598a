"""A mode of PyTorch in which each operation returns numbers that half precision holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

_IMPLICIT = torch._C.DispatchKey.CompositeImplicitAutograd


class RoundedResults(TorchDispatchMode):
    """Rounds float32 numbers that an operation returns or writes to float16 or bfloat16.

    Operations that are made of others (a linear layer, attention) are taken apart first. Views are
    of numbers that have been rounded; integers, float64 and complex numbers stay.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.has_kernel_for_dispatch_key(_IMPLICIT):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        aliases = [returned.alias_info for returned in func._schema.returns]
        if any(alias is not None and alias.is_write for alias in aliases):
            return tree_map_only(torch.Tensor, self._round_in_place, result)
        if any(alias is not None for alias in aliases):
            return result
        return tree_map_only(torch.Tensor, partial(rounded, dtype=self._dtype), result)

    def _round_in_place(self, tensor: torch.Tensor) -> torch.Tensor:
        values = rounded(tensor, self._dtype)
        return tensor if values is tensor else tensor.copy_(values)


def rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return float32 numbers as a half precision holds them; other tensors as they are.

    Numbers that overflow stay, and tensors of which nothing would be left: casts keep the
    operations that need them in float32 (an epsilon of 1e-12 is not 0).
    """
    if tensor.dtype is not torch.float32 or not tensor.numel():
        return tensor
    values = tensor.to(dtype).float()
    if not values.any():
        return tensor
    finite = values.isfinite()
    return values if finite.all() else torch.where(finite, values, tensor)
