"""Task and result of an exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.data.calibration import CalibrationSamples
from converters.errors import ExportError
from converters.models.examples import Examples, InputReader
from converters.models.facts import ModelFacts
from runtimes.spec import Arrays

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ExportJob:
    """Task of an exporter.

    Attributes:
        model: the eager module in eval mode on the CPU; None for exporters that start from `graph`.
        facts: its inputs and outputs.
        folder: for the files.
        graph: the ONNX file that the plan made for this exporter, if it needs one.
        samples: returns some inputs, and what they are; None if the recipe is not available.
        calibration: returns the calibration samples, at most so many; None if the recipe is not
            available.
    """

    model: torch.nn.Module | None
    facts: ModelFacts
    folder: Path
    graph: Path | None = None
    samples: InputReader | None = None
    calibration: Callable[[int | None], CalibrationSamples] | None = None

    @property
    def module(self) -> torch.nn.Module:
        """The module to export: the eager model, with flat ends if it needs them.

        Raises ExportError if the plan gave no model.
        """
        if self.model is None:
            raise ExportError("this exporter was given no eager model")
        if not self.facts.flat:
            return self.model
        from converters.models.calls.flat import flat

        return flat(self.model, list(self.facts.inputs))

    @property
    def examples(self) -> Examples:
        """Example inputs of the model."""
        return Examples(self.facts, self.samples)

    def example(self) -> dict[str, torch.Tensor]:
        """Return example inputs: see `Examples.tensors`."""
        return self.examples.tensors()

    def example_call(self) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Return example arguments: see `Examples.call`."""
        return self.examples.call()

    def some_inputs(self, count: int) -> tuple[str, list[Arrays]]:
        """Return some inputs: see `Examples.some_inputs`."""
        return self.examples.some_inputs(count)

    def dynamic_shapes(self, hints: bool = False) -> Any:
        """Return dynamic shapes for torch.export: see `Examples.dynamic_shapes`."""
        return self.examples.dynamic_shapes(hints)


@dataclass(frozen=True)
class Exported:
    """Result of an exporter.

    Attributes:
        entry: the file to open.
        precision: that it computes in.
        build: entries of the manifest.
        notes: remarks for the report.
        passes: reports of the passes that the exporter applied itself, for the manifest.
        lasting: those of the notes that also hold for artifacts made from these files.
    """

    entry: str
    precision: str = "fp32"
    build: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)
    lasting: list[str] = field(default_factory=list)
