"""The input and the result of a pass over an eager module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.models.call import call
from converters.models.examples import Examples
from converters.models.facts import ModelFacts
from converters.recipe.schema import Recipe
from converters.sources.load import Source
from runtimes.engines.torch.inputs import to_tensors

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Bench:
    """Input of every pass over a module; `kept`: folder of interrupted trainings."""

    source: Source
    recipe: Recipe
    facts: ModelFacts
    kept: Path

    @property
    def classification(self) -> bool:
        """Whether the first output is logits."""
        return self.recipe.task == "classification"

    def run(self, traced: bool = False) -> Callable[[torch.nn.Module], Any]:
        """Return a forward pass on seeded noise.

        Its sizes are those to be fastest at, or with `traced` those that exporters trace with.
        """

        examples = Examples(self.facts)
        if traced:
            tensors = examples.tensors()
        else:
            _, (arrays, *_) = examples.some_inputs(1)
            tensors = to_tensors(arrays)
        return lambda module: call(module, tensors)


@dataclass(frozen=True)
class PassResult:
    """The changed module, the entry of the manifest, and notes for the report."""

    module: torch.nn.Module
    report: dict[str, Any]
    notes: list[str]
