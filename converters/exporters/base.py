"""The contract of an exporter: options that a recipe may set, and one method that writes files.

A plug-in imports everything that it needs from here.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, ClassVar

from converters.errors import ExportError
from converters.exporters.job import Exported, ExportJob
from converters.models.facts import ModelFacts
from converters.recipe.artifact import CastOptions, ExporterOptions, PrecisionOptions
from runtimes.validator.defaults import COMPUTE_SHARE

__all__ = [
    "CastOptions",
    "ExportError",
    "ExportJob",
    "Exported",
    "Exporter",
    "ExporterOptions",
    "Job",
    "ModelFacts",
    "PrecisionOptions",
    "check_precision",
    "first_that_works",
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
    def export(self, job: ExportJob, options: Any) -> Exported:
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
