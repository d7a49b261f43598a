"""The schema of an artifact's options."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from converters.recipe.passes import PassOptions
from converters.recipe.quantize import MOST, QuantizeOptions
from runtimes.artifact.gates import Gates
from runtimes.spec import Strict
from runtimes.validator.defaults import COMPUTE_SHARE


class ExporterOptions(Strict):
    """What every artifact of a recipe may set."""

    format: str = Field(..., description="The exporter; by default the artifact's name.")
    gates: Gates | None = Field(None, description="Overrides of the recipe's gates for this artifact.")
    passes: tuple[PassOptions, ...] = Field((), description="Changes to the graph before it is written, in order.")

    @property
    def asked_precision(self) -> str:
        """The precision that the artifact shall compute in: a quantization's, else the format's own."""
        quantize = self.quantize
        return quantize.to if quantize else self.float_precision

    @property
    def float_precision(self) -> str:
        """What is not quantized computes in this."""
        return "fp32"

    @property
    def least_share(self) -> float:
        """The share of layers that must have the precision; the validator knows how many shall stay float."""
        mixed = self.quantize and (self.quantize.max_drop or self.quantize.exclude)
        return MOST if mixed else COMPUTE_SHARE

    @property
    def quantize(self) -> QuantizeOptions | None:
        """The options of the artifact's quantization."""
        return next((one.quantize for one in self.passes if one.quantize), None)

    @property
    def sparse(self) -> bool:
        """Whether a pass gave the weights the pattern 2:4."""
        return any(one.prune and one.prune.pattern for one in self.passes)


class PrecisionOptions(ExporterOptions):
    """Options of a format whose layers compute in a precision that the recipe chooses."""

    precision: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="What the layers compute in.")

    @property
    def float_precision(self) -> str:
        """As the recipe says."""
        return self.precision


class CastOptions(PrecisionOptions):
    """Options of a format whose graph is cast to its precision; a quantized one is not."""

    @model_validator(mode="after")
    def _one_precision(self) -> Self:
        if self.quantize and self.precision != "fp32":
            raise ValueError(f"precision {self.precision} cannot be had with quantize: what stays float is fp32")
        return self
