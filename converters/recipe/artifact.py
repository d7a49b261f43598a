"""The schema of an artifact's options."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from converters.recipe.passes import PassOptions
from converters.recipe.quantize import MIXED_SHARE, QuantizeOptions
from runtimes.artifact.gates import Gates
from runtimes.spec import Strict
from runtimes.validator.defaults import COMPUTE_SHARE

GraphExporter = Annotated[
    Literal["auto", "dynamo", "torchscript"],
    Field(
        description="PyTorch's ONNX exporter, for the graph. auto: dynamo, with torchscript (a "
        "trace) as the fallback; the manifest says which and why."
    ),
]
"""Option of a format that starts from an ONNX graph."""


class ExporterOptions(Strict):
    """Options of an artifact in any format."""

    format: str = Field(
        ..., description="Format of the artifact. By default the name of the artifact."
    )
    gates: Gates | None = Field(
        None, description="Gates of this artifact; each overrides that of the recipe's `gates:`."
    )
    passes: tuple[PassOptions, ...] = Field(
        (),
        description="Passes that change the model before it is exported, in order: prune, recover, "
        "quantize.",
    )

    @property
    def asked_precision(self) -> str:
        """Precision that the artifact must compute in: its quantization's, or else its format's."""
        quantize = self.quantize
        return quantize.to if quantize else self.float_precision

    @property
    def float_precision(self) -> str:
        """Precision of the layers that are not quantized."""
        return "fp32"

    @property
    def least_share(self) -> float:
        """Share of layers that must have the precision.

        The validator knows how many layers must stay float.
        """
        mixed = self.quantize and (self.quantize.max_drop or self.quantize.exclude)
        return MIXED_SHARE if mixed else COMPUTE_SHARE

    @property
    def quantize(self) -> QuantizeOptions | None:
        """Options of the artifact's quantization."""
        for options in self.passes:
            if options.quantize:
                return options.quantize
        return None

    @property
    def sparse(self) -> bool:
        """Whether a pass gave the weights the pattern 2:4."""
        return any(options.prune and options.prune.pattern for options in self.passes)


class PrecisionOptions(ExporterOptions):
    """Options of a format whose layers compute in a precision that the recipe chooses."""

    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32", description="Precision of the layers' computation; inputs and outputs stay float32."
    )

    @property
    def float_precision(self) -> str:
        """Precision that the recipe chooses."""
        return self.precision


class CastOptions(PrecisionOptions):
    """Options of a format whose graph is cast to its precision; a quantized one is not."""

    @model_validator(mode="after")
    def _one_precision(self) -> Self:
        if self.quantize and self.precision != "fp32":
            raise ValueError(
                f"precision {self.precision} cannot be combined with quantize: the layers that are "
                "not quantized are fp32"
            )
        return self
