"""The contract of an exporter: options that a recipe may set, and one method that writes files.

A plug-in imports all it needs from here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from converters.errors import ExportError, Refused
from converters.exporters.job import Exported, ExportJob
from converters.models.facts import ModelFacts
from converters.recipe.artifact import CastOptions, ExporterOptions, PrecisionOptions
from runtimes.precision.judge import ComputingLayer, Judgement, Work, judge_work
from runtimes.precision.table import row_of
from runtimes.validator.defaults import COMPUTE_SHARE

__all__ = [
    "Attempt",
    "CastOptions",
    "ExportError",
    "ExportJob",
    "Exported",
    "Exporter",
    "ExporterOptions",
    "Job",
    "ModelFacts",
    "PrecisionOptions",
    "Refused",
    "check_precision",
    "check_work",
    "first_that_works",
    "try_in_turn",
    "work_notes",
]

Job = ExportJob
"""The name of `ExportJob` in version 0.1, for plug-ins that import it."""
_OPTIONAL_QUANTIZERS = ("nncf", "torchao")


class Exporter(ABC):
    """Writes a model in one format."""

    format: ClassVar[str]
    runtime: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    quantization: ClassVar[tuple[str, ...]] = ()
    """Modes of the pass `quantize` that the engine has kernels for."""
    Options: ClassVar[type[ExporterOptions]]

    def missing(self, options: Any) -> str | None:
        """Return why this machine cannot build the format, or None. Imports nothing heavy."""
        absent = [package for package in self.packages if not find_spec(package)]
        if absent:
            return f"{', '.join(absent)} not installed: pip install 'burnish[convert]'"
        quantizer = self.quantizer(options) if options.quantize else None
        if quantizer in _OPTIONAL_QUANTIZERS and not find_spec(quantizer):
            return f"{quantizer} is not installed: pip install 'burnish[quantize]'"
        prunes = any(step.prune or step.recover for step in options.passes)
        if prunes and not find_spec("torch_pruning"):
            return "torch-pruning is not installed: pip install 'burnish[prune]'"
        return None

    def quantizer(self, options: Any) -> str:
        """Return the package that quantizes for this format, if the options have that pass."""
        return str(options.quantize.quantizer)

    def runs_on(self, options: Any) -> tuple[str, ...]:
        """Return the devices that an artifact of these options runs on."""
        return self.devices

    def graph_options(self, options: Any) -> dict[str, Any] | None:
        """Return options of the ONNX graph to start from, or None to start from the module."""
        return None

    def depends_on_machine(self, options: Any) -> bool:
        """Return whether the files, or their counts, depend on the building CPU or GPU."""
        return True

    def varies(self, options: Any) -> str | None:
        """Return why another build of the same recipe may give other bytes, or None."""
        for step in options.passes:
            if step.varies:
                return str(step.varies)
        return self.unrepeatable(options)

    def unrepeatable(self, options: Any) -> str | None:
        """Return why exporting the same model twice may give other bytes, or None.

        A format has to override this to promise the same bytes.
        """
        return f"{self.format} does not promise the same bytes each time"

    @abstractmethod
    def export(self, job: ExportJob, options: Any) -> Exported:
        """Write the files. Raises ExportError."""


def check_precision(
    compute: dict[str, int],
    precision: str,
    share: float = COMPUTE_SHARE,
    why: str = "",
    left: int = 0,
) -> None:
    """Raise ExportError if less than `share` of the computing layers have the requested precision.

    For plug-ins that count their layers; `check_work` is for those that list them.

    Args:
        compute: number of computing layers by precision.
        precision: the requested one.
        share: of the layers that must have it.
        why: the end of the message, if the reason is known.
        left: number of layers that need not have it.
    """
    total = sum(compute.values())
    if total and compute.get(precision, 0) < share * (total - left):
        counts = ", ".join(f"{count} {name}" for name, count in sorted(compute.items()))
        raise ExportError(
            f"the network is not {precision}: its {total} computing layers are {counts}{why}"
        )


def check_work(
    layers: Sequence[ComputingLayer],
    options: ExporterOptions,
    share: float | None = None,
    why: str = "",
) -> None:
    """Raise ExportError if layers do not keep to the table of `runtimes.precision`.

    Args:
        layers: the computing layers.
        options: of the artifact: its format, its precision and its mode of quantization.
        share: of the multiply-adds that must have the precision; by default that of the options.
        why: the end of the message, if the reason is known.
    """
    judgement = _judgement(layers, options, options.least_share if share is None else share)
    if not judgement.holds:
        raise ExportError(f"the network is not {options.asked_precision}: {judgement.words}{why}")


def work_notes(layers: Sequence[ComputingLayer], options: ExporterOptions) -> list[str]:
    """Return a sentence on the work that a quantized network does in float, if that is much of it."""
    judgement = _judgement(layers, options, options.least_share)
    much = options.quantize is not None and judgement.total < COMPUTE_SHARE
    return [judgement.words] if much else []


def _judgement(
    layers: Sequence[ComputingLayer], options: ExporterOptions, least: float
) -> Judgement:
    precision = options.asked_precision
    row = row_of(options.format, options.quantize.mode if options.quantize else None)
    return judge_work(Work.of(layers, precision), row, least=least)


def _without_folders(text: str) -> str:
    """Replace absolute paths by file names: a manifest travels, this machine's folders do not."""
    return re.sub(r"(?<![\w.])/(?:[^\s/\"':]+/)+", "", text)


@dataclass(frozen=True)
class Attempt:
    """The attempt that worked: its name, its result, and the errors of those before it."""

    name: str
    result: Any
    errors: dict[str, Exception]

    @property
    def failed(self) -> dict[str, str]:
        """Why the attempts before it failed, for a manifest."""
        return {name: _in_words(error) for name, error in self.errors.items()}


def try_in_turn(choice: str, attempts: dict[str, Callable[[], Any]]) -> Attempt:
    """Try the chosen attempt, or with `auto` each in order.

    Raises:
        Refused: no attempt works, and one would have been wrong: the one for the most sizes.
        ExportError: no attempt works, with all reasons.
    """
    errors: dict[str, Exception] = {}
    for name, attempt in attempts.items():
        if choice not in ("auto", name):
            continue
        try:
            return Attempt(name, attempt(), errors)
        except Exception as error:  # exporters fail in any way their libraries please
            errors[name] = error
    if refused := [error for error in errors.values() if isinstance(error, Refused)]:
        raise max(refused, key=lambda error: error.share)
    reasons = "\n".join(f"  {name}: {_in_words(error)}" for name, error in errors.items())
    raise ExportError(f"this model cannot be exported:\n{reasons}")


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {_without_folders(str(error).strip())}"


def first_that_works(
    choice: str, attempts: dict[str, Callable[[], Any]]
) -> tuple[str, Any, dict[str, str]]:
    """Return the name, the result and the failures of `try_in_turn`; as plug-ins know it."""
    attempt = try_in_turn(choice, attempts)
    return attempt.name, attempt.result, attempt.failed
