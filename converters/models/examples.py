"""Example inputs of a model, to trace it and to run its graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.models.facts import ModelFacts
from runtimes.spec import Arrays, DimRange, export_sizes
from runtimes.validator.inputs.draws import draw
from runtimes.validator.probes import synthetic_samples

if TYPE_CHECKING:
    import torch

InputReader = Callable[[int], tuple[str, list[Arrays]]]
"""Reads at most the given number of a recipe's inputs; returns their description too."""


@dataclass(frozen=True)
class Examples:
    """Inputs for a model.

    Attributes:
        facts: the model's inputs and outputs.
        samples: reads inputs of the recipe; None without a recipe.
    """

    facts: ModelFacts
    samples: InputReader | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Draw inputs to trace with: seeded noise at sizes that exporters do not specialise.

        These are never 0 or 1.
        """
        import numpy as np
        import torch

        rng, sizes = np.random.default_rng(0), export_sizes(self.facts.dims)
        tensors = {}
        for name, spec in self.facts.inputs.items():
            tensors[name] = torch.from_numpy(draw(name, spec, sizes, rng))
        return tensors

    def call(self) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Draw inputs to trace with, as (args, kwargs) of forward()."""
        tensors = self.tensors()
        return ((), tensors) if self.facts.by_keyword else (tuple(tensors.values()), {})

    def some_inputs(self, count: int) -> tuple[str, list[Arrays]]:
        """Return a description of at most `count` inputs at the `opt` sizes, and these inputs.

        Without a recipe they are noise.
        """
        if self.samples is not None:
            return self.samples(count)
        noise = synthetic_samples(self.facts.inputs, self.facts.dims, count=count)
        return "seeded noise", [probe.inputs for probe in noise]

    def dynamic_shapes(self, hints: bool = False) -> Any:
        """Return the dynamic shapes for torch.export, structured as the call; None if static.

        `hints`: let torch.export find the relations of sizes and note them as guards. Otherwise it
        refuses a model with a relation that the dimensions do not have.
        """
        import torch

        dims = {}
        for number, (name, dim) in enumerate(self.facts.dims.items()):
            if dim.min != dim.max and hints:
                dims[name] = torch.export.Dim.AUTO(min=dim.min, max=dim.max)
            elif dim.min != dim.max:
                # A recipe's name may be none in Python: `batch-size`.
                dims[name] = _export_dim(f"size_{number}", dim)
        if not dims:
            return None
        shapes = {}
        for name, spec in self.facts.inputs.items():
            sizes = enumerate(spec.shape)
            shapes[name] = {axis: dims[size] for axis, size in sizes if size in dims}
        return shapes if self.facts.by_keyword else tuple(shapes.values())


def _export_dim(name: str, dim: DimRange) -> Any:
    """Return a dynamic dimension; of multiples, the exporter knows as many as there are."""
    import torch

    step = dim.multiple_of
    if step == 1:
        return torch.export.Dim(name, min=dim.min, max=dim.max)
    return step * torch.export.Dim(f"{name}_steps", min=dim.min // step, max=dim.max // step)
