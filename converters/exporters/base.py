"""What an exporter is: options that a recipe may set, and one method that writes files."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from converters.passes.options import PassOptions
from converters.passes.quantize.options import MOST, QuantizeOptions
from runtimes.errors import BurnishError
from runtimes.spec import Arrays, Dims, Specs, Strict
from runtimes.validator.defaults import COMPUTE_SHARE, Gates
from runtimes.validator.probes import draw, export_sizes, synthetic_samples

if TYPE_CHECKING:
    import torch

    from converters.passes.quantize.calibrate import Samples


_OPTIONAL_QUANTIZERS = ("nncf", "torchao")


class ExportError(BurnishError):
    """A model could not be written in a format; the message has the exporter's own words."""


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


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model after it has run once.

    Attributes:
        inputs, outputs, dims: tensors in order, with named dynamic dimensions.
        by_keyword: forward() takes the inputs by name.
        parameters: number of parameters.
        flops: floating-point operations of one run at the sizes to be fastest at; None where not countable.
    """

    inputs: Specs
    outputs: Specs
    dims: Dims
    by_keyword: bool
    parameters: int
    flops: int | None = None


@dataclass(frozen=True)
class Job:
    """What an exporter works on.

    Attributes:
        model: the eager module in eval mode on the CPU; None for exporters that start from `graph`.
        facts: its inputs and outputs.
        folder: where the files go.
        graph: the ONNX file that the plan made for this exporter, where it asked for one.
        samples: gives some inputs, and says what they are; None where the recipe is not at hand.
        calibration: gives the calibration samples, at most so many, and tells the list what it notices.
    """

    model: torch.nn.Module | None
    facts: ModelFacts
    folder: Path
    graph: Path | None = None
    samples: Callable[[int], tuple[str, list[Arrays]]] | None = None
    calibration: Callable[[int | None, list[str]], Samples] | None = None

    @property
    def module(self) -> torch.nn.Module:
        """The eager module. Raises ExportError where the plan gave none."""
        if self.model is None:
            raise ExportError("this exporter was given no eager model")
        return self.model

    def example(self) -> dict[str, torch.Tensor]:
        """Inputs to trace with: seeded noise at sizes that exporters do not specialise (never 0 or 1)."""
        import numpy as np
        import torch

        rng, sizes = np.random.default_rng(0), export_sizes(self.facts.dims)
        return {name: torch.from_numpy(draw(spec, sizes, rng)) for name, spec in self.facts.inputs.items()}

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

    def example_call(self) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """The example as (args, kwargs) of forward()."""
        example = self.example()
        return ((), example) if self.facts.by_keyword else (tuple(example.values()), {})


@dataclass(frozen=True)
class Exported:
    """What an exporter made: the file to open, what it computes in, and what a reader should know.

    `passes`: what each pass did that the exporter applied itself, for the manifest.
    """

    entry: str
    precision: str = "fp32"
    build: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    passes: list[dict[str, Any]] = field(default_factory=list)


class Exporter(ABC):
    """Writes a model in one format."""

    format: ClassVar[str]
    runtime: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    quantization: ClassVar[tuple[str, ...]] = ()
    """Modes of the pass `quantize` that the engine has kernels for; none where passes cannot be had."""
    Options: ClassVar[type[ExporterOptions]]

    def missing(self, options: Any) -> str | None:
        """Why this machine cannot build the format, or None. Imports nothing heavy."""
        absent = [package for package in self.packages if not find_spec(package)]
        if absent:
            return f"{', '.join(absent)} not installed: pip install 'burnish[convert]'"
        quantizer = self.quantizer(options) if options.quantize else None
        if quantizer in _OPTIONAL_QUANTIZERS and not find_spec(quantizer):
            return f"{quantizer} is not installed: pip install 'burnish[quantize]'"
        if any(one.prune or one.recover for one in options.passes) and not find_spec("torch_pruning"):
            return "torch-pruning is not installed: pip install 'burnish[prune]'"
        return None

    def quantizer(self, options: Any) -> str:
        """The package that quantizes for this format, where options ask for that."""
        return str(options.quantize.quantizer)

    def runs_on(self, options: Any) -> tuple[str, ...]:
        """The devices that an artifact of these options runs on."""
        return self.devices

    def graph_options(self, options: Any) -> dict[str, Any] | None:
        """Options of the ONNX graph that the export starts from, or None where it starts from the module."""
        return None

    def depends_on_machine(self, options: Any) -> bool:
        """Whether the files, or what is counted of them, depend on the CPU or GPU of the machine that builds."""
        return True

    def varies(self, options: Any) -> str | None:
        """Why another build of the same recipe may give other bytes, or None where it gives the same."""
        reasons = (*(one.varies for one in options.passes), self.unrepeatable(options))
        return next(filter(None, reasons), None)

    def unrepeatable(self, options: Any) -> str | None:
        """Why exporting the same model twice may give other bytes, or None. That it does not must be said."""
        return f"{self.format} does not promise the same bytes each time"

    @abstractmethod
    def export(self, job: Job, options: Any) -> Exported:
        """Write the files. Raises ExportError."""


def check_precision(
    compute: dict[str, int], asked: str, share: float = COMPUTE_SHARE, why: str = "", left: int = 0
) -> None:
    """Raise ExportError where less than `share` of the computing layers have the precision asked for.

    `why` ends the message, where the reason is known. `left` of the layers are none that must have it.
    """
    total = sum(compute.values())
    if total and compute.get(asked, 0) < share * (total - left):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(compute.items()))
        raise ExportError(f"the network is not {asked}: of its {total} computing layers there are {counts}{why}")


def _without_folders(text: str) -> str:
    """The text with file names in place of absolute paths: a manifest travels, this machine's folders do not."""
    return re.sub(r"(?<![\w.])/(?:[^\s/\"':]+/)+", "", text)


def first_that_works(asked: str, attempts: dict[str, Callable[[], Any]]) -> tuple[str, Any, dict[str, str]]:
    """Try the attempt that was asked for, or with `auto` each in order.

    Returns:
        The winner's name, its result, and why the ones before it failed.

    Raises ExportError with every reason where none works.
    """
    failures: dict[str, str] = {}
    for name, attempt in attempts.items():
        if asked not in ("auto", name):
            continue
        try:
            return name, attempt(), failures
        except Exception as error:  # exporters fail in any way their libraries please
            failures[name] = f"{type(error).__name__}: {_without_folders(str(error).strip())}"
    reasons = "\n".join(f"  {name}: {why}" for name, why in failures.items())
    raise ExportError(f"no way to export this model worked:\n{reasons}")
