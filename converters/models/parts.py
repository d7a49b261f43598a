"""Parts of a module: find, replace, drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    import torch


def put(root: torch.nn.Module, path: str, part: torch.nn.Module | None) -> None:
    """Set the module at a path; None leaves the place empty."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, part)


def drop(root: nn.Module, paths: Iterable[str]) -> None:
    """Set these modules to None, as torchvision does for `aux_logits=False`."""
    for path in paths:
        put(root, path, None)
        holder: Any = root.get_submodule(path.rpartition(".")[0])
        if getattr(holder, "aux_logits", False):
            holder.aux_logits = False


def failing_module(error: BaseException, module: nn.Module) -> str:
    """Name the innermost module whose forward pass raised, for the end of a sentence.

    Empty if it is the root.
    """
    names = {id(part): name for name, part in module.named_modules()}
    trace, innermost = error.__traceback__, ""
    while trace is not None:
        innermost = names.get(id(trace.tb_frame.f_locals.get("self")), "") or innermost
        trace = trace.tb_next
    return f" (in {innermost})" if innermost else ""


LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
