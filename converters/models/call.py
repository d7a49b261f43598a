"""Call an eager module with named inputs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def passes_by_keyword(module: torch.nn.Module, names: list[str]) -> bool:
    """Whether inputs go by name: there are several, and forward() has all the recipe's names.

    A single input goes by position.
    """
    if len(names) < 2:
        return False
    parameters = inspect.signature(module.forward).parameters
    return all(name in parameters for name in names)


def call(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> Any:
    """Run the module on named tensors, by name if forward() has the names, else in order."""
    if passes_by_keyword(module, list(tensors)):
        return module(**tensors)
    return module(*tensors.values())
