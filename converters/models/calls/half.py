"""Models whose weights are stored in half precision (bfloat16, float16), computed in float32.

Half precision holds a subset of float32's values, so the weights stay exactly what they are. The
reference, the truth and all artifacts start from float32, and a recipe's `precision:` says which
artifacts compute in less. A forward() that casts to half precision itself, as one for such weights
may have to, is run with these casts going to the precision of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch import nn

_HALF = (torch.bfloat16, torch.float16)
_MARK = "_stored_in_half"


def widen(module: nn.Module) -> nn.Module:
    """Hold half-precision weights and buffers as float32, and mark the module; others stay."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(tensor.dtype in _HALF for tensor in tensors):

        def to_float32(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.float() if tensor.dtype in _HALF else tensor

        module._apply(to_float32)  # type: ignore[no-untyped-call]
        setattr(module, _MARK, True)
    return module


def stored_in_half(module: nn.Module) -> bool:
    """Return whether `widen` found weights in half precision."""
    return getattr(module, _MARK, False) is True


def run_wide(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], run: Callable[[Any], Any]
) -> tuple[Any, bool]:
    """Run a model, one stored in half precision in the precision that its weights have now.

    Args:
        module: the model.
        tensors: its inputs by name; those in half precision get the precision of the weights.
        run: calls forward() with the inputs.

    Returns:
        The result, and whether that needed help: inputs in half precision, or casts to it in
        forward().
    """
    if not stored_in_half(module):
        return run(tensors), False
    tensors_of_weights = (*module.parameters(), *module.buffers())
    wide = next(tensor.dtype for tensor in tensors_of_weights if tensor.is_floating_point())
    inputs = dict(tensors)
    half = [name for name, tensor in tensors.items() if tensor.dtype in _HALF]
    for name in half:
        inputs[name] = tensors[name].to(wide)
    with _WideCasts(wide) as casts:
        return run(inputs), casts.seen or bool(half)


class _WideCasts(TorchFunctionMode):
    """Replaces half precision by `wide` in every call of torch, as by `x.to(torch.bfloat16)`."""

    def __init__(self, wide: torch.dtype) -> None:
        super().__init__()
        self.wide = wide
        self.seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.half, torch.Tensor.bfloat16):
            self.seen = True
            return args[0].to(self.wide)
        if func is torch.finfo or not self._names_half(args, kwargs):
            return func(*args, **kwargs)
        self.seen = True
        wide_kwargs = {name: self._replaced(value) for name, value in kwargs.items()}
        return func(*map(self._replaced, args), **wide_kwargs)

    def _names_half(self, args: Any, kwargs: Any) -> bool:
        return any(value in _HALF for value in (*args, *kwargs.values()) if _is_dtype(value))

    def _replaced(self, value: Any) -> Any:
        return self.wide if _is_dtype(value) and value in _HALF else value


def _is_dtype(value: Any) -> bool:
    return isinstance(value, torch.dtype)
