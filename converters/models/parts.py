"""Parts of a module: find, replace, drop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    import torch


def put(root: torch.nn.Module, path: str, part: torch.nn.Module | None) -> None:
    """Put a module, or None, at a path."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, part)


def drop(root: nn.Module, paths: Iterable[str]) -> None:
    """Put None in the place of these modules, as torchvision does for `aux_logits=False`."""
    for path in paths:
        put(root, path, None)
        holder: Any = root.get_submodule(path.rpartition(".")[0])
        if getattr(holder, "aux_logits", False):
            holder.aux_logits = False


def where(error: BaseException, module: nn.Module) -> str:
    """The innermost module whose forward pass raised, as the end of a sentence; empty for the root."""
    names = {id(one): name for name, one in module.named_modules()}
    trace, found = error.__traceback__, ""
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), "") or found
        trace = trace.tb_next
    return f" (in {found})" if found else ""


LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
