"""Example inputs of a model: what it is traced with, what its graphs are run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.models.facts import ModelFacts
from runtimes.spec import Arrays, export_sizes
from runtimes.validator.probes import draw, synthetic_samples

if TYPE_CHECKING:
    import torch

InputReader = Callable[[int], tuple[str, list[Arrays]]]
"""Gives at most so many inputs of a recipe, and says where they are from."""


@dataclass(frozen=True)
class Examples:
    """Inputs for a model.

    Attributes:
        facts: the model's inputs and outputs.
        samples: gives inputs of the recipe; None where the recipe is not at hand.
    """

    facts: ModelFacts
    samples: InputReader | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Inputs to trace with: seeded noise at sizes that exporters do not specialise (never 0 or 1)."""
        import numpy as np
        import torch

        rng, sizes = np.random.default_rng(0), export_sizes(self.facts.dims)
        return {name: torch.from_numpy(draw(spec, sizes, rng)) for name, spec in self.facts.inputs.items()}

    def call(self) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Inputs to trace with, as (args, kwargs) of forward()."""
        tensors = self.tensors()
        return ((), tensors) if self.facts.by_keyword else (tuple(tensors.values()), {})

    def some_inputs(self, count: int) -> tuple[str, list[Arrays]]:
        """At most `count` inputs at the sizes to be fastest at, and what they are: noise without a recipe."""
        if self.samples is not None:
            return self.samples(count)
        noise = synthetic_samples(self.facts.inputs, self.facts.dims, count=count)
        return "seeded noise", [probe.inputs for probe in noise]

    def dynamic_shapes(self) -> Any:
        """What torch.export takes for the named dimensions, in the form of the call; None for static shapes."""
        import torch

        dims = {
            name: torch.export.Dim(name, min=dim.min, max=dim.max)
            for name, dim in self.facts.dims.items()
            if dim.min != dim.max
        }
        shapes = {
            name: {axis: dims[size] for axis, size in enumerate(spec.shape) if size in dims}
            for name, spec in self.facts.inputs.items()
        }
        if not dims:
            return None
        return shapes if self.facts.by_keyword else tuple(shapes.values())
