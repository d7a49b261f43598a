"""Call an eager module with named inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converters.models.calls.binding import bind

if TYPE_CHECKING:
    import torch


def call(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> Any:
    """Run the module on named tensors: see `bind`. Raises UsageError if they do not bind."""
    return call_noting_casts(module, tensors)[0]


def call_noting_casts(
    module: torch.nn.Module, tensors: dict[str, torch.Tensor]
) -> tuple[Any, bool]:
    """Run the module; return also whether forward() casts to half precision: see `run_wide`."""
    from converters.models.calls.half import run_wide

    binding = bind(module, list(tensors))

    def run(inputs: Any) -> Any:
        args, kwargs = binding.arguments(inputs)
        return module(*args, **kwargs)

    return run_wide(module, tensors, run)
